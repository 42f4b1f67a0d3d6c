// gopacket's assembler and net/http's readers, as its own httpassembly example has them: prints a JSON line for each
// request and each answer.
//
//	gopacket INTERFACE PORT
package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/google/gopacket/tcpassembly"
	"github.com/google/gopacket/tcpassembly/tcpreader"
	"golang.org/x/net/bpf"
)

type record struct {
	Ts      float64     `json:"ts"`
	Src     string      `json:"src"`
	Dst     string      `json:"dst"`
	Method  string      `json:"method,omitempty"`
	Target  string      `json:"target,omitempty"`
	Status  int         `json:"status,omitempty"`
	Headers http.Header `json:"headers"`
	Body    int64       `json:"body"`
}

type factory struct {
	server  string
	mutex   sync.Mutex
	out     *json.Encoder
	running sync.WaitGroup
}

func (f *factory) New(network, transport gopacket.Flow) tcpassembly.Stream {
	reader := tcpreader.NewReaderStream()
	f.running.Add(1)
	go f.read(network, transport, &reader)
	return &reader
}

func (f *factory) read(network, transport gopacket.Flow, stream io.Reader) {
	defer f.running.Done()
	defer tcpreader.DiscardBytesToEOF(stream)
	buffered := bufio.NewReader(stream)
	for {
		said := record{Src: network.Src().String() + ":" + transport.Src().String(),
			Dst: network.Dst().String() + ":" + transport.Dst().String()}
		var body io.ReadCloser
		if transport.Dst().String() == f.server {
			request, err := http.ReadRequest(buffered)
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				return
			} else if err != nil {
				continue
			}
			said.Method, said.Target, said.Headers, body = request.Method, request.RequestURI, request.Header, request.Body
		} else {
			response, err := http.ReadResponse(buffered, nil)
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				return
			} else if err != nil {
				continue
			}
			said.Status, said.Headers, body = response.StatusCode, response.Header, response.Body
		}
		said.Body, _ = io.Copy(io.Discard, body)
		body.Close()
		said.Ts = float64(time.Now().UnixNano()) / 1e9
		f.mutex.Lock()
		f.out.Encode(said)
		f.mutex.Unlock()
	}
}

func check(err error) {
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

// IPv4 over Ethernet's header, TCP from or to the port; the copy of a packet that leaves by lo is left out.
func filter(port uint32) []bpf.RawInstruction {
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 4, SkipTrue: 8},
		bpf.LoadAbsolute{Off: 23, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 6, SkipTrue: 6},
		bpf.LoadMemShift{Off: 14},
		bpf.LoadIndirect{Off: 14, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: port, SkipTrue: 2},
		bpf.LoadIndirect{Off: 16, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: port, SkipTrue: 1},
		bpf.RetConstant{Val: 262144},
		bpf.RetConstant{Val: 0},
	})
	check(err)
	return program
}

func version() {
	built, _ := debug.ReadBuildInfo()
	for _, module := range built.Deps {
		if module.Path == "github.com/google/gopacket" {
			os.Stdout.WriteString("gopacket " + module.Version + ", " + built.GoVersion + "\n")
		}
	}
}

func main() {
	if os.Args[1] == "--version" {
		version()
		return
	}
	port, err := strconv.Atoi(os.Args[2])
	check(err)
	handle, err := pcapgo.NewEthernetHandle(os.Args[1])
	check(err)
	check(handle.SetBPF(filter(uint32(port))))
	check(handle.SetCaptureLength(262144))
	output := bufio.NewWriterSize(os.Stdout, 1<<16)
	made := &factory{server: os.Args[2], out: json.NewEncoder(output)}
	assembler := tcpassembly.NewAssembler(tcpassembly.NewStreamPool(made))
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, os.Interrupt)
	source := gopacket.NewPacketSource(handle, layers.LayerTypeEthernet)
	source.DecodeOptions = gopacket.DecodeOptions{Lazy: true, NoCopy: true}
	packets := source.Packets()
	for {
		select {
		case packet := <-packets:
			if tcp, ok := packet.TransportLayer().(*layers.TCP); ok && packet.NetworkLayer() != nil {
				assembler.AssembleWithTimestamp(packet.NetworkLayer().NetworkFlow(), tcp, packet.Metadata().Timestamp)
			}
		case <-asked:
			assembler.FlushAll()
			made.running.Wait()
			check(output.Flush())
			return
		}
	}
}
