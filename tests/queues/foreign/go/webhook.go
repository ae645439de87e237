package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	tolerance    = 300 * time.Second
	bodyBytesMax = 64 << 20 // 100 requests, each with a sample
	resultsMax   = 100      // at once; the oracle takes 1,000
	remembered   = 10_000   // ids of messages
)

var errRefused = errors.New("the oracle refuses the results") // sent again they would be refused again

// message is what webhook-requested.schema.json and webhook-retracted.schema.json describe.
type message struct {
	Type string `json:"type"`
	Data struct {
		Requests    []Request `json:"requests"`
		Retractions []Request `json:"retractions"`
	} `json:"data"`
}

// place names a request; one that is asked again has another.
type place struct {
	requestID string
	revision  uint32
	attempt   uint32
}

func placeOf(request Request) place {
	return place{request.RequestID, request.NextRevision, request.Attempt}
}

type hook struct {
	key     []byte
	mutex   sync.Mutex
	seen    map[string]bool
	order   []string // ids of messages, oldest first
	waiting []Request
}

func serveWebhook(port, oracle, secret string, labeller *Labeller) error {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return err
	}
	receiver := &hook{key: key, seen: map[string]bool{}}
	go receiver.labelAll(oracle, labeller)
	server := &http.Server{
		Addr:              "127.0.0.1:" + port,
		Handler:           receiver,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
	}
	return server.ListenAndServe()
}

func (h *hook) ServeHTTP(writer http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(writer, request.Body, bodyBytesMax))
	if err != nil {
		http.Error(writer, "too large, or cut off", http.StatusRequestEntityTooLarge)
		return
	}
	if !h.isSigned(request.Header, body) {
		http.Error(writer, "wrong signature", http.StatusUnauthorized)
		return
	}
	var came message
	if err := json.Unmarshal(body, &came); err != nil {
		http.Error(writer, "no message", http.StatusBadRequest)
		return
	}
	h.take(request.Header.Get("webhook-id"), came)
	writer.WriteHeader(http.StatusNoContent)
}

func (h *hook) signature(id, at string, body []byte) []byte {
	mac := hmac.New(sha256.New, h.key)
	fmt.Fprintf(mac, "%s.%s.", id, at)
	mac.Write(body)
	return mac.Sum(nil)
}

func (h *hook) isSigned(header http.Header, body []byte) bool {
	id, at := header.Get("webhook-id"), header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(at, 10, 64)
	if id == "" || err != nil || time.Since(time.Unix(seconds, 0)).Abs() > tolerance {
		return false
	}
	right := h.signature(id, at, body)
	for _, each := range strings.Fields(header.Get("webhook-signature")) {
		given, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(each, "v1,"))
		if strings.HasPrefix(each, "v1,") && err == nil && hmac.Equal(given, right) {
			return true
		}
	}
	return false
}

// take takes a message; one that is sent again has the id that it had. Types of later releases are ignored.
func (h *hook) take(id string, came message) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.seen[id] {
		return
	}
	h.seen[id] = true
	h.order = append(h.order, id)
	if len(h.order) > remembered {
		delete(h.seen, h.order[0])
		h.order = h.order[1:]
	}
	switch came.Type {
	case "labels.requested":
		h.drop(came.Data.Requests) // a repetition is labelled once
		h.waiting = append(h.waiting, came.Data.Requests...)
	case "labels.retracted":
		h.drop(came.Data.Retractions)
	}
}

// drop forgets requests; the caller holds the mutex.
func (h *hook) drop(requests []Request) {
	gone := map[place]bool{}
	for _, each := range requests {
		gone[placeOf(each)] = true
	}
	kept := h.waiting[:0]
	for _, each := range h.waiting {
		if !gone[placeOf(each)] {
			kept = append(kept, each)
		}
	}
	h.waiting = kept
}

// next takes what is to be labelled off the list.
func (h *hook) next() []Request {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	count := len(h.waiting)
	if count > resultsMax {
		count = resultsMax
	}
	batch := append([]Request(nil), h.waiting[:count]...)
	h.waiting = h.waiting[count:]
	return batch
}

func (h *hook) labelAll(oracle string, labeller *Labeller) {
	for {
		var results []Result
		var failed []Request
		for _, each := range h.next() {
			result, err := labeller.label(each)
			if err != nil {
				say(map[string]any{"request_id": each.RequestID, "problem": err.Error()})
				failed = append(failed, each)
				continue
			}
			results = append(results, result)
		}
		if len(results) > 0 {
			h.submit(oracle, results)
		}
		if len(failed) > 0 { // the samples are away: try again
			time.Sleep(time.Second)
			h.mutex.Lock()
			h.waiting = append(failed, h.waiting...)
			h.mutex.Unlock()
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// submit sends results, the same message under the same id until it is accepted or refused.
func (h *hook) submit(oracle string, results []Result) {
	body, err := json.Marshal(map[string]any{"type": "label.submitted", "data": map[string]any{"results": results}})
	if err != nil {
		say(map[string]any{"problem": err.Error()})
		return
	}
	id, wait := newID(), 200*time.Millisecond
	for {
		verdicts, err := h.post(oracle+"/queue/results", id, body)
		if err == nil && len(verdicts) == len(results) {
			for i, each := range results {
				say(map[string]any{"request_id": each.RequestID, "verdict": verdicts[i].Verdict})
			}
			return
		}
		if errors.Is(err, errRefused) {
			say(map[string]any{"problem": err.Error()})
			return
		}
		time.Sleep(wait)
		if wait < 5*time.Second {
			wait *= 2
		}
	}
}

func (h *hook) post(url, id string, body []byte) ([]Verdict, error) {
	request, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	request.Header.Set("content-type", "application/json")
	request.Header.Set("webhook-id", id)
	request.Header.Set("webhook-timestamp", at)
	request.Header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(h.signature(id, at, body)))
	client := http.Client{Timeout: 30 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	said, err := io.ReadAll(io.LimitReader(response.Body, bodyBytesMax))
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= 500 {
		return nil, errors.New(response.Status)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: %s %s", errRefused, response.Status, said)
	}
	var answer struct {
		Results []Verdict `json:"results"`
	}
	err = json.Unmarshal(said, &answer)
	return answer.Results, err
}

func newID() string {
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		panic(err)
	}
	return "msg_" + hex.EncodeToString(random)
}
