/* A service: GET anything is 200 on port 8080, IPv4 only, and TERM ends it with status 7. */
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

static void stop(int sig) {
	(void)sig;
	_exit(7);
}

int main(void) {
	static const char answer[] =
		"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"status\":\"ok\"}\n";
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(8080)};
	char request[4096];
	int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

	signal(SIGTERM, stop);
	signal(SIGPIPE, SIG_IGN);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 16))
		return 1;
	for (;;) {
		int conn = accept(listener, 0, 0);

		if (conn < 0)
			continue;
		if (read(conn, request, sizeof request) > 0)
			(void)!write(conn, answer, sizeof answer - 1);
		close(conn);
	}
}
