package wire

import (
	"errors"
	"fmt"
	"strings"
)

func ExampleParsePGURI() {
	u, err := ParsePGURI("postgres://app:s3cret@db-a,db-b:5433/shop?sslmode=verify-full")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(u.Get("user"), u.Get("dbname"), u.SSLMode())
	fmt.Println(u)
	fmt.Println(u.Target())
	// Output:
	// app shop verify-full
	// postgres://app@db-a,db-b:5433/shop?sslmode=verify-full
	// postgres://app@db-a,db-b:5433/shop
}

// Defaults go from the better source to the worse: the environment, then the system's user.
func ExamplePGURI_SetDefault() {
	u, err := ParsePGURI("postgres:///shop?sslmode=require")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, d := range []struct{ param, value string }{
		{"host", "/run/postgresql"}, // PGHOST
		{"sslmode", "disable"},      // PGSSLMODE
		{"user", ""},                // PGUSER, not set
		{"user", "app"},             // the system's
	} {
		if err := u.SetDefault(d.param, d.value); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(u, u.Check())
	// Output: postgres://app@%2Frun%2Fpostgresql/shop?sslmode=require <nil>
}

func ExamplePGHost() {
	u, err := ParsePGURI("postgres://db-a:5433,[::1],%2Frun%2Fpostgresql/shop")
	if err != nil {
		fmt.Println(err)
		return
	}
	hosts, err := u.Hosts()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, h := range hosts {
		fmt.Println(h.Address())
	}
	// Output:
	// tcp db-a:5433
	// tcp [::1]:5432
	// unix /run/postgresql/.s.PGSQL.5432
}

func ExamplePGURIError() {
	_, err := ParsePGURI("postgresql+asyncpg://app:s3cret@db/shop")
	fmt.Println(err)
	var uriErr *PGURIError
	if errors.As(err, &uriErr) {
		fmt.Println("hint:", uriErr.Hint)
	}
	// Output:
	// scheme: names a driver
	// hint: leave out the + and the driver's name: postgresql://…
}

func ExampleLookupPassword() {
	file := `# one line a server
db-a:5432:*:app:first
*:*:*:app:sec\:ond
`
	password, err := LookupPassword(strings.NewReader(file), PassfileKey{Host: "db-b", Database: "shop", User: "app"})
	fmt.Println(password, err)
	// Output: sec:ond <nil>
}

func ExamplePassfileError() {
	_, err := LookupPassword(strings.NewReader("db:*:*:*:"+strings.Repeat("x", 20_000)), PassfileKey{Host: "db", Database: "shop", User: "app"})
	var fileErr *PassfileError
	if errors.As(err, &fileErr) {
		fmt.Println(fileErr.Line, fileErr.Reason)
	}
	// Output: 1 longer than 16384 bytes
}
