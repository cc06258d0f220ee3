package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tailscale.com/client/local"
	"tailscale.com/ipn/ipnstate"
	"tailscale.com/types/key"
)

const (
	firstHostname = "sharehost"
	// How long anything of tailscaled may take: it is a matter of tenths of a second on a machine that is not busy.
	nodePatience = 60 * time.Second
	// How often is looked whether it has come so far.
	lookEvery = 20 * time.Millisecond
	// How long tailscaled may take to leave when it is asked to.
	leavePatience = 10 * time.Second
	// How long a start waits for one that somebody else has just killed: the kernel tells us a moment later.
	newsPatience = 500 * time.Millisecond
)

// node is the real thing: a tailscaled, and the tailscale that logs it in.
type node struct {
	ctx      context.Context // over when the lab is told to end: nothing waits any longer
	binaries string
	folder   string
	tailnet  *tailnet
	ingress  *ingress
	ca       *authority
	key      key.NodePublic
	process  *process
	local    local.Client
	// Its UDP port, the same over restarts, as an installed tailscaled has it: what peers know of the way to it stays true.
	port int
}

// process is a tailscaled that was started. The channel is closed when it is gone.
type process struct {
	*os.Process
	gone chan struct{}
}

func newNode(ctx context.Context, binaries, folder string, tailnet *tailnet, ingress *ingress, ca *authority) (n *node, err error) {
	n = &node{ctx: ctx, binaries: binaries, folder: folder, tailnet: tailnet, ingress: ingress, ca: ca}
	n.local = local.Client{Socket: n.socket(), UseSocketOnly: true}
	n.port, err = freeUDPPort()
	return n, err
}

func freeUDPPort() (int, error) {
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		return 0, err
	}
	return conn.LocalAddr().(*net.UDPAddr).Port, conn.Close()
}

func (n *node) socket() string       { return filepath.Join(n.folder, "tailscaled.sock") }
func (n *node) state() string        { return filepath.Join(n.folder, "state") }
func (n *node) certificates() string { return filepath.Join(n.state(), "certs") }
func (n *node) caFile() string       { return filepath.Join(n.folder, "ca.pem") }

// environment is all that tailscaled and tailscale know of the machine: nothing leads them away from loopback.
func (n *node) environment() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + n.folder,
		"TS_LOGS_DIR=" + n.folder,
		"TS_NO_LOGS_NO_SUPPORT=true",
		"TS_ASSUME_NETWORK_UP_FOR_TEST=1",
		"TS_PANIC_IF_HIT_MAIN_CONTROL=1",
		"TS_DISABLE_PORTMAPPER=1",
		// Certificates are the lab's own: tailscaled takes what lies in its folder, and asks no authority.
		"TS_CERT_SHARE_MODE=ro",
		"SSL_CERT_FILE=" + n.caFile(),
	}
}

// command prepares a child that dies with us, whatever happens, and that no Ctrl-C reaches before we say so.
// Only the main goroutine may start it: the kernel ends the child with the thread that started it.
func (n *node) command(program string, arguments ...string) (*exec.Cmd, *os.File, error) {
	log, err := os.OpenFile(filepath.Join(n.folder, program+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, err
	}
	command := exec.CommandContext(n.ctx, filepath.Join(n.binaries, program), arguments...)
	command.Env = n.environment()
	command.Dir = n.folder
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return command, log, nil
}

// start starts tailscaled, and does not wait.
func (n *node) start() error {
	if n.runs() {
		select {
		case <-n.process.gone:
		case <-time.After(newsPatience):
			return errors.New("tailscaled runs already")
		}
	}
	command, log, err := n.command("tailscaled",
		"--tun=userspace-networking", "--statedir="+n.state(), "--socket="+n.socket(), "--port="+strconv.Itoa(n.port), "--no-logs-no-support")
	if err != nil {
		return err
	}
	defer log.Close()
	if err := command.Start(); err != nil {
		return err
	}
	n.process = &process{command.Process, make(chan struct{})}
	go func(gone chan struct{}) {
		command.Wait()
		close(gone)
	}(n.process.gone)
	return nil
}

func (n *node) runs() bool {
	if n.process == nil {
		return false
	}
	select {
	case <-n.process.gone:
		return false
	default:
		return true
	}
}

// stop ends tailscaled, and returns when it is gone.
func (n *node) stop(signal syscall.Signal) error {
	if !n.runs() {
		return errors.New("tailscaled does not run")
	}
	if err := n.process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-n.process.gone:
		return nil
	case <-time.After(leavePatience):
		return fmt.Errorf("tailscaled still runs %v after the signal", leavePatience)
	}
}

// logIn brings tailscaled into the tailnet, by tailscale as a person does.
func (n *node) logIn() error {
	if err := n.waitFor("tailscaled answers", func(*ipnstate.Status) bool { return true }); err != nil {
		return err
	}
	return n.tailscale("up", "--login-server="+n.tailnet.url, "--authkey="+authKey, "--hostname="+firstHostname,
		"--accept-dns=false", "--timeout="+nodePatience.String())
}

// tailscale runs the command-line client on our tailscaled.
func (n *node) tailscale(arguments ...string) error {
	command, log, err := n.command("tailscale", append([]string{"--socket=" + n.socket()}, arguments...)...)
	if err != nil {
		return err
	}
	defer log.Close()
	if err := command.Run(); err != nil {
		return fmt.Errorf("tailscale %s: %w (see tailscale.log)", arguments[0], err)
	}
	return nil
}

// waitRunning waits until the node is what a share needs: Running, with a name and certificate domains, and reached
// from the ingress. So the first visitor does not pay for the first handshake.
func (n *node) waitRunning() error {
	running := func(status *ipnstate.Status) bool {
		return status.BackendState == "Running" && len(status.CertDomains) > 0 && status.Self.Online
	}
	if err := n.waitFor("tailscaled is Running", running); err != nil {
		return err
	}
	status, err := n.status()
	if err != nil {
		return err
	}
	n.key = status.Self.PublicKey
	return n.waitReached()
}

// waitReached waits until the ingress has a way to the node's PeerAPI.
func (n *node) waitReached() error {
	deadline := time.Now().Add(nodePatience)
	for {
		err := n.reached()
		if err == nil {
			return nil
		}
		if n.ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("the ingress does not reach the node: %w", err)
		}
		time.Sleep(lookEvery)
	}
}

func (n *node) reached() error {
	known := n.tailnet.control.Node(n.key)
	if known == nil {
		return errors.New("the control server does not know it")
	}
	to, err := peerAPI(known)
	if err != nil {
		return err
	}
	if err := n.ingress.findWay(n.ctx, to.Addr()); err != nil {
		return err
	}
	var conn net.Conn
	if conn, err = n.ingress.reach(n.ctx, to); err != nil {
		return err
	}
	return conn.Close()
}

// waitFor waits until tailscaled's own status is so.
func (n *node) waitFor(what string, so func(*ipnstate.Status) bool) error {
	deadline := time.Now().Add(nodePatience)
	for {
		status, err := n.status()
		if err == nil && so(status) {
			return nil
		}
		if !n.runs() {
			return fmt.Errorf("waited for: %s, but tailscaled is gone (see tailscaled.log)", what)
		}
		if n.ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("waited %v for: %s (%w)", nodePatience, what, errors.Join(err, describe(status)))
		}
		time.Sleep(lookEvery)
	}
}

func describe(status *ipnstate.Status) error {
	if status == nil {
		return nil
	}
	return fmt.Errorf("it is %s, %v", status.BackendState, status.Health)
}

func (n *node) status() (*ipnstate.Status, error) {
	ctx, cancel := context.WithTimeout(n.ctx, leavePatience)
	defer cancel()
	return n.local.StatusWithoutPeers(ctx)
}

// name returns the node's public name, as tailscaled says it.
func (n *node) name() (string, error) {
	status, err := n.status()
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(status.Self.DNSName, "."), nil
}
