// Labels what a run of labelloop asks for, over webhook or NATS, with the standard library alone:
//
//	go run . webhook PORT ORACLE_URL ANSWERS.json ANNOTATOR      (the secret is in WEBHOOK_SECRET)
//	go run . nats nats://127.0.0.1:4222 RUN ANSWERS.json ANNOTATOR
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"sync"
	"time"
)

const sampleBytesMax = 64 << 20

// Request has the fields of label-request.schema.json that this program uses.
type Request struct {
	RequestID    string `json:"request_id"`
	Content      []byte `json:"content"` // base64
	URI          string `json:"uri"`
	SHA256       string `json:"sha256"`
	NextRevision uint32 `json:"next_revision"`
	Attempt      uint32 `json:"attempt"`
}

// Result has the fields of label-result.schema.json that this program sets: either ClassName or Skip.
type Result struct {
	RequestID string `json:"request_id"`
	ClassName string `json:"class_name,omitempty"`
	Skip      string `json:"skip,omitempty"`
	Annotator string `json:"annotator"`
	Revision  uint32 `json:"revision"`
}

// Verdict has the fields of label-verdict.schema.json that this program reports.
type Verdict struct {
	RequestID string `json:"request_id"`
	Verdict   string `json:"verdict"`
	Reason    string `json:"reason"`
	Message   string `json:"message"`
}

// Labeller answers requests with the class that a file gives a sample's SHA-256, or else with a skip. Your part
// replaces the look-up.
type Labeller struct {
	known     map[string]string
	annotator string
	client    *http.Client
}

func newLabeller(path, annotator string) (*Labeller, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	known := map[string]string{}
	if err := json.Unmarshal(data, &known); err != nil {
		return nil, err
	}
	return &Labeller{known, annotator, &http.Client{Timeout: 10 * time.Second}}, nil
}

func (l *Labeller) label(request Request) (Result, error) {
	content, err := l.contentOf(request)
	if err != nil {
		return Result{}, err
	}
	sum := sha256.Sum256(content)
	digest := hex.EncodeToString(sum[:])
	if digest != request.SHA256 {
		return Result{}, fmt.Errorf("%s: this is not the sample that was asked for", request.RequestID)
	}
	result := Result{RequestID: request.RequestID, Annotator: l.annotator, Revision: request.NextRevision}
	if class, found := l.known[digest]; found {
		result.ClassName = class
	} else {
		result.Skip = "SKIP_KIND_SKIPPED"
	}
	return result, nil
}

func (l *Labeller) contentOf(request Request) ([]byte, error) {
	if request.URI == "" {
		return request.Content, nil
	}
	response, err := l.client.Get(request.URI)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: its sample is answered with %s", request.RequestID, response.Status)
	}
	return io.ReadAll(io.LimitReader(response.Body, sampleBytesMax))
}

var saying sync.Mutex

// say tells the caller, one JSON object a line.
func say(what map[string]any) {
	var line bytes.Buffer
	if err := json.NewEncoder(&line).Encode(what); err != nil {
		log.Fatal(err)
	}
	saying.Lock()
	defer saying.Unlock()
	os.Stdout.Write(line.Bytes())
}

func main() {
	if len(os.Args) != 6 {
		log.Fatal("usage: webhook PORT ORACLE_URL ANSWERS ANNOTATOR, or nats URL RUN ANSWERS ANNOTATOR")
	}
	labeller, err := newLabeller(os.Args[4], os.Args[5])
	if err != nil {
		log.Fatal(err)
	}
	switch os.Args[1] {
	case "webhook":
		err = serveWebhook(os.Args[2], os.Args[3], os.Getenv("WEBHOOK_SECRET"), labeller)
	case "nats":
		labelOverNats(os.Args[2], os.Args[3], labeller)
	default:
		err = fmt.Errorf("there is no transport %q", os.Args[1])
	}
	if err != nil {
		log.Fatal(err)
	}
}
