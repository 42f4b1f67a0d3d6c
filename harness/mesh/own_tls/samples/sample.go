// An HTTPS server and client of Go: `sample serve PEM PORT` answers each request with 200; `sample ask URL…` asks each.
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	if os.Args[1] == "serve" {
		http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "go\n") })
		fail(http.ListenAndServeTLS(":"+os.Args[3], os.Args[2], os.Args[2], nil))
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	client := &http.Client{Transport: transport}
	for _, url := range os.Args[2:] {
		response, err := client.Get(url)
		fail(err)
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
