package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

const (
	stream   = "LABELLOOP_QUEUE"
	subjects = "labelloop-queue.v1"
	slot     = "0" // with several annotators, give each a slot of their own
	pullFor  = 5 * time.Second
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
	consumer, ended := run+"-"+slot, make(chan error, 2)
	requests := fmt.Sprintf("%s.requests.%s.*.*.%s", subjects, run, slot)
	go func() {
		ended <- nats.pulled(consumer, requests, func(data []byte) (bool, error) {
			return answer(nats, run, labeller, data)
		})
	}()
	go func() { ended <- nats.pulled(consumer+"-verdicts", subjects+".verdicts."+run, tell) }()
	return <-ended
}

// pulled reads a subject with a durable consumer, and acknowledges what handle returns true for: the rest comes again.
func (b *broker) pulled(consumer, subject string, handle func([]byte) (bool, error)) error {
	config, err := json.Marshal(map[string]any{
		"stream_name": stream,
		"config": map[string]any{
			"durable_name":   consumer,
			"filter_subject": subject,
			"ack_policy":     "explicit",
			"deliver_policy": "all",
			"ack_wait":       (30 * time.Second).Nanoseconds(),
		},
	})
	if err != nil {
		return err
	}
	if err := b.call("$JS.API.CONSUMER.DURABLE.CREATE."+stream+"."+consumer, config); err != nil {
		return err
	}
	pull := []byte(fmt.Sprintf(`{"batch": 1, "expires": %d}`, pullFor.Nanoseconds()))
	for {
		next, err := b.request("$JS.API.CONSUMER.MSG.NEXT."+stream+"."+consumer, pull, 2*pullFor)
		if err != nil {
			return err
		}
		if next.status != 0 { // 404, 408: nothing to do
			continue
		}
		done, err := handle(next.data)
		if err == nil && done {
			err = b.publish(next.reply, "", []byte("+ACK"))
		}
		if err != nil {
			return err
		}
	}
}

func answer(nats *broker, run string, labeller *Labeller, data []byte) (bool, error) {
	var request Request
	if err := json.Unmarshal(data, &request); err != nil {
		return false, err
	}
	result, err := labeller.label(request)
	if err != nil {
		say(map[string]any{"request_id": request.RequestID, "problem": err.Error()})
		return false, nil
	}
	said, err := json.Marshal(result)
	if err != nil {
		return false, err
	}
	if err := nats.call(subjects+".results."+run, said); err != nil {
		return false, err
	}
	say(map[string]any{"request_id": result.RequestID})
	return true, nil
}

func tell(data []byte) (bool, error) {
	var verdict Verdict
	if err := json.Unmarshal(data, &verdict); err != nil {
		return false, err
	}
	say(map[string]any{"told": verdict.RequestID, "verdict": verdict.Verdict, "reason": verdict.Reason})
	return true, nil
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
