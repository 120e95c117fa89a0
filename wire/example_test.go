package wire_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"alfred/healthcheck/wire"
)

// serve returns the client's end of a connection whose server reads a command's bytes and writes its reply, for each
// pair of exchanges, and closes.
func serve(exchanges ...[2]string) net.Conn {
	client, server := net.Pipe()
	go func() { // ends with the exchanges, or when the client closes
		defer server.Close()
		for _, e := range exchanges {
			if _, err := io.CopyN(io.Discard, server, int64(len(e[0]))); err != nil {
				return
			}
			io.WriteString(server, e[1])
		}
	}()
	return client
}

func ExampleRedis() {
	conn := serve(
		[2]string{"*1\r\n$4\r\nPING\r\n", "-NOAUTH Authentication required.\r\n"},
		[2]string{"*2\r\n$4\r\nAUTH\r\n$6\r\ns3cret\r\n", "+OK\r\n"},
		[2]string{"*1\r\n$4\r\nPING\r\n", "+PONG\r\n"},
	)
	defer conn.Close()

	c := wire.NewRedis(conn)
	_, err := c.Do("PING")
	var refused *wire.RedisError
	if errors.As(err, &refused) {
		fmt.Println(refused.Code())
	}
	fmt.Println(c.Do("AUTH", "s3cret"))
	fmt.Println(c.Do("PING"))
	// Output:
	// NOAUTH
	// OK <nil>
	// PONG <nil>
}

func ExampleForeignError() {
	conn := serve([2]string{"*1\r\n$4\r\nPING\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n"})
	defer conn.Close()

	_, err := wire.NewRedis(conn).Do("PING")
	var foreign *wire.ForeignError
	fmt.Println(errors.As(err, &foreign), err)
	// Output: true not Redis: it speaks HTTP
}

func ExamplePG() {
	const (
		startup  = "\x00\x00\x00\x1e\x00\x03\x00\x00user\x00app\x00database\x00db\x00\x00"
		ok       = "R\x00\x00\x00\x08\x00\x00\x00\x00"
		ready    = "Z\x00\x00\x00\x05I"
		query    = "Q\x00\x00\x00\x0dSELECT 1\x00"
		row      = "D\x00\x00\x00\x0b\x00\x01\x00\x00\x00\x011"
		complete = "C\x00\x00\x00\x0dSELECT 1\x00"
	)
	conn := serve([2]string{startup, ok + ready}, [2]string{query, row + complete + ready}, [2]string{"X\x00\x00\x00\x04", ""})
	defer conn.Close()

	c := wire.NewPG(conn, conn)
	fmt.Println(c.Login(context.Background(), wire.Login{User: "app", Database: "db"}))
	fmt.Println(c.Query("SELECT 1"))
	fmt.Println(c.Terminate())
	// Output:
	// true <nil>
	// 1 <nil>
	// <nil>
}

func ExamplePGError() {
	const startup = "\x00\x00\x00\x1e\x00\x03\x00\x00user\x00app\x00database\x00db\x00\x00"
	body := "SFATAL\x00C57P03\x00Mthe database system is starting up\x00\x00"
	conn := serve([2]string{startup, "E\x00\x00\x00" + string(rune(4+len(body))) + body})
	defer conn.Close()

	_, err := wire.NewPG(conn, conn).Login(context.Background(), wire.Login{User: "app", Database: "db"})
	var said *wire.PGError
	if errors.As(err, &said) {
		fmt.Println(said.Code)
	}
	fmt.Println(err)
	// Output:
	// 57P03
	// FATAL 57P03: the database system is starting up
}

// ReadSSLAnswer reads one byte; what comes behind it is the first record of TLS, or an attack.
func ExampleReadSSLAnswer() {
	conn := serve([2]string{"\x00\x00\x00\x08\x04\xd2\x16\x2f", "SR\x00\x00\x00\x08\x00\x00\x00\x00"})
	defer conn.Close()

	answer, err := wire.ReadSSLAnswer(conn)
	fmt.Printf("%c %v\n", answer, err)
	behind, _ := bufio.NewReader(conn).Peek(1)
	fmt.Println(wire.TLSRecord(behind))
	// Output:
	// S <nil>
	// the server sent bytes behind its answer to SSLRequest, before TLS began (CVE-2021-23222)
}

// A server that has not the password can play along only until the last message.
func ExampleSCRAM() {
	c := wire.NewSCRAM("s3cret", "n,,", nil)
	_, nonce, _ := strings.Cut(c.First(), "r=")
	_, err := c.Final(context.Background(), "r="+nonce+"extended,s=c2FsdA==,i=4096")
	fmt.Println(err)
	fmt.Println(c.Verify("v=" + base64.StdEncoding.EncodeToString(make([]byte, 32))))
	// Output:
	// <nil>
	// SCRAM: the server's signature is wrong: it does not know the password
}
