package supervise

import (
	"strconv"
	"strings"
	"syscall"
	"testing"
)

var signalCases = []struct {
	in   string
	want syscall.Signal // 0: an error
}{
	{"TERM", 15}, {"SIGTERM", 15}, {"term", 15}, {"sigTerm", 15}, {"15", 15},
	{"HUP", 1}, {"1", 1}, {"SYS", 31}, {"IOT", 6}, {"CLD", 17}, {"POLL", 29}, {"WINCH", 28},
	{"RTMIN", 34}, {"SIGRTMIN+3", 37}, {"rtmin+30", 64}, {"RTMAX", 64}, {"RTMAX-14", 50}, {"RTMAX-30", 34}, {"64", 64},
	{"", 0}, {"0", 0}, {"65", 0}, {"-1", 0}, {"SIG", 0}, {"TERMINATE", 0}, {"SIGSIGTERM", 0}, {"T ERM", 0},
	{"RTMIN+31", 0}, {"RTMIN-1", 0}, {"RTMIN3", 0}, {"RTMAX+1", 0}, {"RTMIN+", 0}, {"RTMIN+x", 0}, {"9999999999999999999999", 0},
}

func TestParseSignal(t *testing.T) {
	for _, tt := range signalCases {
		if got, err := ParseSignal(tt.in); got != tt.want || (err == nil) != (tt.want != 0) {
			t.Errorf("ParseSignal(%q) = %d, %v, want %d", tt.in, got, err, tt.want)
		}
	}
}

func TestSignalName(t *testing.T) {
	for _, tt := range []struct {
		in   syscall.Signal
		want string
	}{
		{1, "HUP"}, {15, "TERM"}, {31, "SYS"}, {32, "32"}, {33, "33"}, {34, "RTMIN"}, {35, "RTMIN+1"}, {49, "RTMIN+15"},
		{50, "RTMAX-14"}, {63, "RTMAX-1"}, {64, "RTMAX"}, {0, "0"}, {65, "65"}, {-1, "-1"},
	} {
		if got := SignalName(tt.in); got != tt.want {
			t.Errorf("SignalName(%d) = %q, want %q", int(tt.in), got, tt.want)
		}
	}
}

func TestParseStopSignal(t *testing.T) {
	for _, tt := range []struct {
		in         string
		came, sent syscall.Signal // came 0: an error
	}{
		{"TERM:INT", 15, 2}, {"sigterm:sigquit", 15, 3}, {"15:3", 15, 3}, {"TERM:0", 15, 0}, {"TERM:KILL", 15, 9}, {"RTMIN+3:TERM", 37, 15},
		{"TERM", 0, 0}, {"TERM:", 0, 0}, {":TERM", 0, 0}, {"0:TERM", 0, 0}, {"TERM:INT:QUIT", 0, 0}, {"KILL:TERM", 0, 0}, {"PIPE:TERM", 0, 0}, {"34:TERM", 0, 0}, {"TERM:65", 0, 0},
		{"1:31", 1, 31}, {"1:32", 0, 0}, {"1:33", 0, 0}, {"1:34", 0, 0}, {"HUP:RTMIN", 0, 0}, {"1:35", 1, 35}, {"1:64", 1, 64},
	} {
		came, sent, err := ParseStopSignal(tt.in)
		if came != tt.came || sent != tt.sent || (err == nil) != (tt.came != 0) {
			t.Errorf("ParseStopSignal(%q) = %d, %d, %v, want %d, %d", tt.in, came, sent, err, tt.came, tt.sent)
		}
	}
}

// What parses is a signal whose name and number, in any case and with or without SIG, parse to it again.
func FuzzParseSignal(f *testing.F) {
	for _, tt := range signalCases {
		f.Add(tt.in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		sig, err := ParseSignal(in)
		if err != nil {
			return
		}
		if sig < 1 || sig > maxSignal {
			t.Fatalf("ParseSignal(%q) = %d", in, sig)
		}
		name := SignalName(sig)
		spellings := []string{name, strings.ToLower(name), strconv.Itoa(int(sig))}
		if _, err := strconv.Atoi(name); err != nil {
			spellings = append(spellings, "SIG"+name)
		}
		for _, s := range spellings {
			if again, err := ParseSignal(s); again != sig || err != nil {
				t.Errorf("ParseSignal(%q) = %d, %v, want %d as for %q", s, again, err, sig, in)
			}
		}
	})
}
