package wire

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// libpqScript asks the libpq installed. It reads one JSON object a line, {"uri": hex, "connect": bool}, and answers each
// with {"err": text, "values": {keyword: hex}, "password": hex}. Where connect is true it connects and closes; password is
// then the one it would have sent. The first line it writes is libpq's version. Status 3: there is none.
const libpqScript = `
import ctypes, json, sys
try:
    pq = ctypes.CDLL("libpq.so.5")
except OSError:
    sys.exit(3)
P, S = ctypes.c_void_p, ctypes.c_char_p
class Option(ctypes.Structure):
    _fields_ = [(n, S) for n in ("keyword", "envvar", "compiled", "val", "label", "dispchar")] + [("dispsize", ctypes.c_int)]
pq.PQconninfoParse.restype = ctypes.POINTER(Option)
pq.PQconninfoParse.argtypes = [S, ctypes.POINTER(P)]
pq.PQconninfoFree.argtypes = [ctypes.POINTER(Option)]
pq.PQfreemem.argtypes = [P]
pq.PQconnectdb.restype, pq.PQconnectdb.argtypes = P, [S]
pq.PQfinish.argtypes = [P]
for f in (pq.PQerrorMessage, pq.PQpass):
    f.restype, f.argtypes = S, [P]
print(pq.PQlibVersion())
for line in sys.stdin:
    ask = json.loads(line)
    uri, answer, err = bytes.fromhex(ask["uri"]), {"err": "", "values": {}, "password": ""}, P()
    options = pq.PQconninfoParse(uri, ctypes.byref(err))
    if options:
        i = 0
        while options[i].keyword:
            if options[i].val is not None:
                answer["values"][options[i].keyword.decode()] = options[i].val.hex()
            i += 1
        pq.PQconninfoFree(options)
    else:
        answer["err"] = ctypes.cast(err, S).value.decode(errors="replace")
        pq.PQfreemem(err)
    if ask["connect"]:
        conn = pq.PQconnectdb(uri)
        answer["err"] = pq.PQerrorMessage(conn).decode(errors="replace")
        answer["password"] = pq.PQpass(conn).hex()
        pq.PQfinish(conn)
    print(json.dumps(answer))
`

type libpqQuestion struct {
	URI     string `json:"uri"` // in hex
	Connect bool   `json:"connect"`
}

type libpqAnswer struct {
	Err      string            `json:"err"`
	Values   map[string]string `json:"values"`   // in hex
	Password string            `json:"password"` // in hex
}

// askLibpq returns libpq's version, as 150018, and its answers. It skips the test where there is no libpq to ask.
func askLibpq(t *testing.T, questions []libpqQuestion) (version int, answers []libpqAnswer) {
	t.Helper()
	skip := func(what string) {
		t.Helper()
		if os.Getenv("HEALTHCHECK_REQUIRE") == "all" {
			t.Fatalf("%s is missing, and HEALTHCHECK_REQUIRE=all", what)
		}
		t.Skipf("%s is missing", what)
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		skip("python3")
	}
	var stdin, stdout, stderr bytes.Buffer
	for _, q := range questions {
		q.URI = hex.EncodeToString([]byte(q.URI))
		if err := json.NewEncoder(&stdin).Encode(q); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(python, "-c", libpqScript)
	cmd.Env = []string{"HOME=" + t.TempDir(), "LD_LIBRARY_PATH=" + os.Getenv("LD_LIBRARY_PATH")} // no PG*, no ~/.pgpass
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &stdin, &stdout, &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 {
		skip("libpq.so.5")
	}
	if err != nil {
		t.Fatalf("python3: %v\n%s", err, stderr.String())
	}
	r := bufio.NewReader(&stdout)
	if _, err := fmt.Fscanln(r, &version); err != nil {
		t.Fatal(err)
	}
	answers = make([]libpqAnswer, len(questions))
	dec := json.NewDecoder(r)
	for i := range answers {
		if err := dec.Decode(&answers[i]); err != nil {
			t.Fatalf("answer to %q: %v", questions[i].URI, err)
		}
		for k, v := range answers[i].Values {
			b, err := hex.DecodeString(v)
			if err != nil {
				t.Fatal(err)
			}
			answers[i].Values[k] = string(b)
		}
	}
	return version, answers
}

// tooOld reports whether a URI is beyond a libpq: parameters it does not know, or, from 18 on,
// spaces, which were literal before.
func tooOld(version int, s string) bool {
	return version < 160000 && strings.Contains(s, "require_auth") ||
		version < 160000 && strings.Contains(s, "sslcertmode") ||
		version < 180000 && strings.Contains(s, "protocol_version=3.0") ||
		version < 170000 && strings.Contains(s, "sslnegotiation") ||
		version >= 180000 && strings.Contains(s, " ")
}

func TestLibpqAccepts(t *testing.T) {
	var questions []libpqQuestion
	for _, tt := range pgURIs {
		questions = append(questions, libpqQuestion{URI: tt.in})
	}
	version, answers := askLibpq(t, questions)
	for i, tt := range pgURIs {
		if tooOld(version, tt.in) {
			continue
		}
		if got := answers[i]; got.Err != "" || uriFields(got.Values) != tt.want {
			t.Errorf("PQconninfoParse(%q) = %q, %q, want %q", tt.in, uriFields(got.Values), got.Err, tt.want)
		}
	}
}

func TestLibpqRefuses(t *testing.T) {
	var questions []libpqQuestion
	for _, tt := range badPGURIs {
		questions = append(questions, libpqQuestion{tt.in, tt.libpq == connects})
	}
	_, answers := askLibpq(t, questions)
	refusal := regexp.MustCompile(`could not match|could not parse network address|invalid port number|invalid integer value|invalid \w+ value`)
	for i, tt := range badPGURIs {
		var ok bool
		switch tt.libpq {
		case refuses:
			ok = answers[i].Err != "" && len(answers[i].Values) == 0
		case connects:
			ok = refusal.MatchString(answers[i].Err) && len(answers[i].Values) != 0
		case accepts:
			ok = answers[i].Err == ""
		case unasked:
			ok = true
		}
		if !ok {
			t.Errorf("libpq(%.100q) = %+v, want that it %s", tt.in, answers[i], tt.libpq)
		}
	}
}

// TestLibpqRandom cuts and decodes URIs of random pieces as libpq does. What ParsePGURI refuses
// besides is not asked of it.
func TestLibpqRandom(t *testing.T) {
	const count = 5000
	pieces := strings.Fields(`@ @ : : / / ? ? & & = = , , [ ] [::1] % # + ! %2 %41 %2F %2c %3A %40 %00 %zz %ff a db host 5432 1
		?host= &port= &user= ?dbname= &password= &sslmode= ssl=true &ssl=true& &hostaddr= ?application_name=x options=`)
	pieces = append(pieces, "", " ", "\t", "é")
	rnd := rand.New(rand.NewPCG(1, 2))
	var questions []libpqQuestion
	for range count {
		s := []string{"postgres://", "postgresql://"}[rnd.IntN(2)]
		for range rnd.IntN(14) {
			s += pieces[rnd.IntN(len(pieces))]
		}
		questions = append(questions, libpqQuestion{URI: s})
	}
	version, answers := askLibpq(t, questions)
	accepted := 0
	for i, q := range questions {
		if tooOld(version, q.URI) {
			continue
		}
		raw, err := cutPGURI(q.URI)
		var values map[string]string
		if err == nil {
			values, err = raw.decode()
		}
		want := answers[i]
		if (err == nil) != (want.Err == "") || err == nil && uriFields(values) != uriFields(want.Values) {
			t.Errorf("decode(%q) = %q, %v, want %q, %s", q.URI, uriFields(values), err, uriFields(want.Values), want.Err)
		}
		if err == nil {
			accepted++
		}
	}
	if accepted < count/20 {
		t.Errorf("%d of %d random URIs were accepted, want enough to compare", accepted, count)
	}
}
