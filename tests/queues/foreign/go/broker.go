package main

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const frameBytesMax = 64 << 20

var errClosed = errors.New("the broker closed the connection")

// delivery is a message; status is that of JetStream, 0 for a message with data.
type delivery struct {
	data   []byte
	reply  string
	status int
}

// broker speaks as much of the NATS protocol as an annotator needs, over plain TCP.
type broker struct {
	connection net.Conn
	writing    sync.Mutex
	mutex      sync.Mutex
	taking     map[string]func(delivery) // by subscription: a message that is pulled keeps its own subject
	count      int
	inbox      string
	gone       chan struct{}
}

// openBroker connects to nats://[user:password@]host:port.
func openBroker(address string) (*broker, error) {
	parsed, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	connection, err := net.DialTimeout("tcp", parsed.Host, 5*time.Second)
	if err != nil {
		return nil, err
	}
	options := map[string]any{
		"verbose": false, "pedantic": false, "lang": "go", "version": "1", "headers": true, "no_responders": true,
	}
	if parsed.User != nil {
		password, _ := parsed.User.Password()
		options["user"], options["pass"] = parsed.User.Username(), password
	}
	said, err := json.Marshal(options)
	if err != nil {
		connection.Close()
		return nil, err
	}
	random := make([]byte, 12)
	if _, err := rand.Read(random); err != nil {
		connection.Close()
		return nil, err
	}
	made := &broker{
		connection: connection,
		taking:     map[string]func(delivery){},
		inbox:      "_INBOX." + hex.EncodeToString(random),
		gone:       make(chan struct{}),
	}
	go made.read()
	return made, made.write(fmt.Sprintf("CONNECT %s\r\n", said))
}

func (b *broker) close() { b.connection.Close() }

func (b *broker) write(text string) error {
	b.writing.Lock()
	defer b.writing.Unlock()
	_, err := io.WriteString(b.connection, text)
	return err
}

// publish publishes data; reply may be empty.
func (b *broker) publish(subject, reply string, data []byte) error {
	if reply != "" {
		subject += " " + reply
	}
	return b.write(fmt.Sprintf("PUB %s %d\r\n%s\r\n", subject, len(data), data))
}

// listen has take called with each message of a subject; take must not block.
func (b *broker) listen(subject string, take func(delivery)) (string, error) {
	b.mutex.Lock()
	b.count++
	id := strconv.Itoa(b.count)
	b.taking[id] = take
	b.mutex.Unlock()
	return id, b.write(fmt.Sprintf("SUB %s %s\r\n", subject, id))
}

func (b *broker) forget(id string) {
	b.mutex.Lock()
	delete(b.taking, id)
	b.mutex.Unlock()
	b.write(fmt.Sprintf("UNSUB %s\r\n", id)) // a connection that is lost has no subscriptions
}

// request publishes data and returns the first reply.
func (b *broker) request(subject string, data []byte, within time.Duration) (delivery, error) {
	b.mutex.Lock()
	inbox := fmt.Sprintf("%s.%d", b.inbox, b.count)
	b.mutex.Unlock()
	came := make(chan delivery, 1)
	id, err := b.listen(inbox, func(each delivery) {
		select {
		case came <- each:
		default: // a further reply
		}
	})
	if err != nil {
		return delivery{}, err
	}
	defer b.forget(id)
	if err := b.publish(subject, inbox, data); err != nil {
		return delivery{}, err
	}
	select {
	case each := <-came:
		return each, nil
	case <-b.gone:
		return delivery{}, errClosed
	case <-time.After(within):
		return delivery{}, fmt.Errorf("%s is not answered", subject)
	}
}

func (b *broker) read() {
	defer close(b.gone)
	defer b.connection.Close()
	lines := bufio.NewReaderSize(b.connection, 64<<10) // INFO is the longest line
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return
		}
		parts := strings.Fields(string(line))
		if len(parts) == 0 {
			continue
		}
		switch parts[0] {
		case "MSG", "HMSG":
			if b.deliver(lines, parts) != nil {
				return
			}
		case "PING":
			if b.write("PONG\r\n") != nil {
				return
			}
		case "-ERR":
			say(map[string]any{"problem": "the broker says " + strings.Join(parts[1:], " ")})
			return
		} // INFO, PONG and +OK need no answer
	}
}

// deliver reads "MSG subject id [reply] size" or "HMSG subject id [reply] header-size size", and what follows it.
func (b *broker) deliver(lines *bufio.Reader, parts []string) error {
	sizes := 1
	if parts[0] == "HMSG" {
		sizes = 2
	}
	if len(parts) < 3+sizes {
		return errors.New("a message without a size")
	}
	size, err := strconv.Atoi(parts[len(parts)-1])
	if err != nil || size < 0 || size > frameBytesMax {
		return fmt.Errorf("a message of %s bytes", parts[len(parts)-1])
	}
	headed := 0
	if sizes == 2 {
		headed, err = strconv.Atoi(parts[len(parts)-2])
		if err != nil || headed < 0 || headed > size {
			return errors.New("a header of a wrong size")
		}
	}
	body := make([]byte, size+2) // with the end of the line
	if _, err := io.ReadFull(lines, body); err != nil {
		return err
	}
	came := delivery{data: body[headed:size]}
	if len(parts) > 3+sizes {
		came.reply = parts[3]
	}
	if words := strings.Fields(string(body[:headed])); len(words) > 1 && words[0] == "NATS/1.0" {
		came.status, _ = strconv.Atoi(words[1]) // of a header with fields alone: not a number, so 0
	}
	b.mutex.Lock()
	take := b.taking[parts[2]]
	b.mutex.Unlock()
	if take != nil {
		take(came)
	}
	return nil
}
