module alfred/healthcheck

go 1.26
