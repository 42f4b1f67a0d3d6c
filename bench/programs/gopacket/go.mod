module bench/gopacket

go 1.21

require (
	github.com/google/gopacket v1.1.19
	golang.org/x/net v0.24.0
)

require golang.org/x/sys v0.21.0 // indirect
