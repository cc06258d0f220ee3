package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tailscale.com/ipn/store/mem"
	"tailscale.com/tailcfg"
	"tailscale.com/tsnet"
	"tailscale.com/types/logger"
)

const (
	// How long the way to a node may take: behind a restart of tailscaled the first handshakes go into the void and
	// are tried again every five seconds.
	dialPatience = 30 * time.Second
	// How long one question whether a node is there may take; it is asked again.
	pingPatience = time.Second
	// How long a node may think about letting a visitor in.
	answerPatience = 10 * time.Second
	// Visitors at once: ten times what the product promises to one node, and far below the limit of descriptors.
	maxVisitors = 4096
)

// The ports that Funnel has; each has a listener of its own.
var funnelPorts = []uint16{443, 8443, 10000}

var errRefused = errors.New("the node refuses")

// ingress stands for Funnel's: it takes visitors from the internet and brings them to a node's PeerAPI.
type ingress struct {
	tailnet *tailnet
	node    *tsnet.Server
	logf    logger.Logf
	// The address that is told as the visitor's; nil: their own.
	source  atomic.Pointer[netip.AddrPort]
	visitor chan struct{}
	counts  counts
}

// counts is what happened at the ingress.
type counts struct {
	Accepted  atomic.Int64 // connections taken
	Unnamed   atomic.Int64 // that said no name within the time and the bytes they have
	Unknown   atomic.Int64 // that named no node
	Unreached atomic.Int64 // whose node did not answer
	Refused   atomic.Int64 // that the node refused
	Brought   atomic.Int64 // that the node took
	Open      atomic.Int64 // of these, which still stand
	ToNode    atomic.Int64 // bytes
	ToVisitor atomic.Int64 // bytes
}

func newIngress(ctx context.Context, tailnet *tailnet, folder string, logf logger.Logf) (*ingress, error) {
	node := &tsnet.Server{
		Dir:        filepath.Join(folder, "ingress"),
		Store:      new(mem.Store),
		Hostname:   "ingress",
		ControlURL: tailnet.url,
		AuthKey:    authKey,
		Ephemeral:  true,
		Logf:       logf,
		UserLogf:   logf,
	}
	ctx, cancel := context.WithTimeout(ctx, nodePatience)
	defer cancel()
	status, err := node.Up(ctx)
	if err != nil {
		return nil, fmt.Errorf("the ingress does not get into the tailnet: %w", err)
	}
	// As Funnel's own: a peer that may speak to PeerAPI and to nothing else.
	tailnet.control.SetUnsignedPeerAPIOnly(status.Self.PublicKey, true)
	return &ingress{tailnet: tailnet, node: node, logf: logf, visitor: make(chan struct{}, maxVisitors)}, nil
}

// listen opens a listener on loopback for each of Funnel's ports, and returns where.
func (in *ingress) listen() (map[string]string, error) {
	where := map[string]string{}
	for _, port := range funnelPorts {
		listener, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
		if err != nil {
			return nil, err
		}
		where[strconv.Itoa(int(port))] = listener.Addr().String()
		go in.accept(listener, port)
	}
	return where, nil
}

func (in *ingress) accept(listener net.Listener, port uint16) {
	for {
		in.visitor <- struct{}{}
		conn, err := listener.Accept()
		if err != nil {
			in.logf("ingress: %v", err)
			return
		}
		in.counts.Accepted.Add(1)
		go func() {
			defer func() { <-in.visitor }()
			defer conn.Close()
			in.visit(conn.(*net.TCPConn), port)
		}()
	}
}

// visit brings one visitor to the node they name. Who is not brought is cut within the handshake, without a word.
func (in *ingress) visit(visitor *net.TCPConn, port uint16) {
	name, hello, err := readHello(visitor)
	if err != nil {
		in.counts.Unnamed.Add(1)
		return
	}
	node := in.tailnet.find(name)
	if node == nil {
		in.counts.Unknown.Add(1)
		return
	}
	to, err := peerAPI(node)
	if err != nil {
		in.counts.Unreached.Add(1)
		in.logf("ingress: %s: %v", name, err)
		return
	}
	source := visitor.RemoteAddr().(*net.TCPAddr).AddrPort()
	if told := in.source.Load(); told != nil {
		source = *told
	}
	// In the tailnet's spelling: tailscaled compares it with its config letter by letter.
	target := net.JoinHostPort(strings.TrimSuffix(node.Name, "."), strconv.Itoa(int(port)))
	conn, answers, err := in.enter(to, source, target)
	if err != nil {
		if errors.Is(err, errRefused) {
			in.counts.Refused.Add(1)
		} else {
			in.counts.Unreached.Add(1)
		}
		in.logf("ingress: %s: %v", target, err)
		return
	}
	defer conn.Close()
	in.counts.Brought.Add(1)
	in.counts.Open.Add(1)
	defer in.counts.Open.Add(-1)
	if _, err := conn.Write(hello); err != nil {
		return
	}
	in.counts.ToNode.Add(int64(len(hello)))
	in.splice(visitor, conn, answers)
}

// findWay makes sure of a way to a node that stands: without, a first handshake may go where a tailscaled was that is
// gone, and the next comes five seconds later.
func (in *ingress) findWay(ctx context.Context, to netip.Addr) error {
	client, err := in.node.LocalClient()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, pingPatience)
	defer cancel()
	pong, err := client.Ping(ctx, to, tailcfg.PingDisco)
	if err == nil && pong.Err != "" {
		err = errors.New(pong.Err)
	}
	return err
}

// reach opens a connection to a node's PeerAPI.
func (in *ingress) reach(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	return in.node.Dial(ctx, "tcp", to.String())
}

// enter asks a node to take a visitor. What is read of the connection is read through the reader.
func (in *ingress) enter(to, source netip.AddrPort, target string) (net.Conn, *bufio.Reader, error) {
	conn, err := in.reach(context.Background(), to)
	if err != nil {
		return nil, nil, err
	}
	answers, err := ask(conn, to, source, target)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, answers, nil
}

func ask(conn net.Conn, to, source netip.AddrPort, target string) (*bufio.Reader, error) {
	request, err := http.NewRequest(http.MethodPost, "/v0/ingress", nil)
	if err != nil {
		return nil, err
	}
	request.Host = to.String()
	request.Header.Set("Tailscale-Ingress-Src", source.String())
	request.Header.Set("Tailscale-Ingress-Target", target)
	if err := conn.SetDeadline(time.Now().Add(answerPatience)); err != nil {
		return nil, err
	}
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	answers := bufio.NewReader(conn)
	answer, err := http.ReadResponse(answers, request)
	if err != nil {
		return nil, err
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("%w: %s", errRefused, answer.Status)
	}
	return answers, conn.SetDeadline(time.Time{})
}

// splice copies both ways until both have ended. An end is passed on as one; a broken connection breaks the other.
func (in *ingress) splice(visitor *net.TCPConn, node net.Conn, answers io.Reader) {
	var both sync.WaitGroup
	both.Go(func() {
		n, err := io.Copy(node, visitor)
		in.counts.ToNode.Add(n)
		if half, ok := node.(interface{ CloseWrite() error }); err == nil && ok {
			half.CloseWrite()
		} else {
			node.Close()
		}
	})
	both.Go(func() {
		n, err := io.Copy(visitor, answers)
		in.counts.ToVisitor.Add(n)
		if err == nil {
			visitor.CloseWrite()
		} else {
			visitor.SetLinger(0)
			visitor.Close()
		}
	})
	both.Wait()
}
