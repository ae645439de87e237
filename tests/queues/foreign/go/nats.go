package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

const (
	stream    = "LABELLOOP_QUEUE"
	subjects  = "labelloop-queue.v1"
	pullS     = 5
	annotates = "0" // the slot; give each of several annotators a slot of their own
)

func labelOverNats(address, run string, labeller *Labeller) {
	for {
		err := workOverNats(address, run, labeller)
		// The broker is away, or the oracle has not made the stream yet.
		say(map[string]any{"problem": err.Error()})
		time.Sleep(300 * time.Millisecond)
	}
}

func workOverNats(address, run string, labeller *Labeller) error {
	nats, err := openBroker(address)
	if err != nil {
		return err
	}
	defer nats.close()
	consumer := run + "-" + annotates
	config, err := json.Marshal(map[string]any{
		"stream_name": stream,
		"config": map[string]any{
			"durable_name":   consumer,
			"filter_subject": fmt.Sprintf("%s.requests.%s.*.*.%s", subjects, run, annotates),
			"ack_policy":     "explicit",
			"deliver_policy": "all",
			"ack_wait":       (30 * time.Second).Nanoseconds(),
		},
	})
	if err != nil {
		return err
	}
	if err := nats.call("$JS.API.CONSUMER.DURABLE.CREATE."+stream+"."+consumer, config); err != nil {
		return err
	}
	if err := nats.subscribe(subjects+".verdicts."+run, sayVerdict); err != nil {
		return err
	}
	for {
		if err := labelOne(nats, run, consumer, labeller); err != nil {
			return err
		}
	}
}

func labelOne(nats *broker, run, consumer string, labeller *Labeller) error {
	pull := fmt.Sprintf(`{"batch": 1, "expires": %d}`, (pullS * time.Second).Nanoseconds())
	came, err := nats.request("$JS.API.CONSUMER.MSG.NEXT."+stream+"."+consumer, []byte(pull), 2*pullS*time.Second)
	if err != nil || came.status != 0 { // 404, 408: nothing to do
		return err
	}
	var request Request
	if err := json.Unmarshal(came.data, &request); err != nil {
		return err
	}
	result, err := labeller.label(request)
	if err != nil {
		say(map[string]any{"request_id": request.RequestID, "problem": err.Error()})
		return nil // what is not acknowledged comes again
	}
	data, err := json.Marshal(result)
	if err != nil {
		return err
	}
	if err := nats.call(subjects+".results."+run, data); err != nil {
		return err
	}
	say(map[string]any{"request_id": result.RequestID})
	return nats.publish(came.reply, "", []byte("+ACK"))
}

func sayVerdict(came delivery) {
	var verdict Verdict
	if json.Unmarshal(came.data, &verdict) == nil {
		say(map[string]any{"told": verdict.RequestID, "verdict": verdict.Verdict, "reason": verdict.Reason})
	}
}

// call calls JetStream, or publishes into a stream.
func (b *broker) call(subject string, data []byte) error {
	came, err := b.request(subject, data, 10*time.Second)
	if err != nil {
		return err
	}
	if came.status != 0 {
		return fmt.Errorf("%s: nobody answers (%d)", subject, came.status)
	}
	var answer struct {
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(came.data, &answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return errors.New(subject + ": " + answer.Error.Description)
	}
	return nil
}
