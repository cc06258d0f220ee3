package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

// How much of a visitor's first words is read for the name: Go's own TLS takes no larger ClientHello than 64 KiB.
const maxHelloBytes = 80 * 1024

// How long a visitor may take to say whom they want.
const helloPatience = 10 * time.Second

var errNoHello = errors.New("no ClientHello with a name")

// readHello reads a visitor's ClientHello, and returns the name in it and all that was read. Nothing is answered:
// whoever ends TLS gets the same bytes.
func readHello(visitor net.Conn) (name string, read []byte, err error) {
	if err := visitor.SetReadDeadline(time.Now().Add(helloPatience)); err != nil {
		return "", nil, err
	}
	listening := &listening{from: io.LimitReader(visitor, maxHelloBytes)}
	config := &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		name = hello.ServerName
		return nil, errNoHello // it has told all it knows
	}}
	err = tls.Server(listening, config).Handshake()
	if name == "" {
		return "", nil, errors.Join(errNoHello, err)
	}
	return name, listening.heard.Bytes(), visitor.SetReadDeadline(time.Time{})
}

// listening is a connection that is only read, and remembers what it read.
type listening struct {
	net.Conn // absent: what is not below is never called
	from     io.Reader
	heard    bytes.Buffer
}

func (l *listening) Read(into []byte) (int, error) {
	n, err := l.from.Read(into)
	l.heard.Write(into[:n])
	return n, err
}

func (l *listening) Write(alert []byte) (int, error)  { return len(alert), nil }
func (l *listening) Close() error                     { return nil }
func (l *listening) SetDeadline(time.Time) error      { return nil }
func (l *listening) SetReadDeadline(time.Time) error  { return nil }
func (l *listening) SetWriteDeadline(time.Time) error { return nil }
