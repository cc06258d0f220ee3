// The lab: a real tailscaled on loopback, with doubles for everything of Tailscale's that it talks to.
//
// It says one line of JSON when the node is Running, and then answers each line on its standard input with one. It ends
// when that is closed, at a signal, and after maxLife at the latest; tailscaled and the folder go with it.
// tests/lab/README.md tells what is double and what is real.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"tailscale.com/envknob"
	"tailscale.com/net/netns"
	"tailscale.com/types/logger"
)

const (
	// A lab that somebody forgot ends by itself; no suite takes as long.
	maxLife = 30 * time.Minute
	// The longest line of a command.
	maxLine = 4096
	// How often the folder is tried to be removed: what writes into it does so a few times a second at the most.
	removals = 5
	// How much of a log is shown when the start fails.
	shownOfLog = 4096
)

func init() {
	// Children are tied to the thread that starts them (Pdeathsig); the main goroutine stays on the main thread.
	runtime.LockOSThread()
}

// lab is all of it.
type lab struct {
	folder    string
	ca        *authority
	tailnet   *tailnet
	ingress   *ingress
	node      *node
	addresses map[string]string
}

func main() {
	binaries := flag.String("binaries", "", "the folder with tailscaled and tailscale")
	folder := flag.String("folder", "", "an empty folder for everything (default: a temporary one); it is removed at the end")
	life := flag.Duration("life", maxLife, "how long the lab lives, at the most")
	person := flag.Bool("person", false, "say in words how to play with it, instead of a line of JSON")
	flag.Parse()
	if err := run(*binaries, *folder, min(*life, maxLife), *person); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func run(binaries, folder string, life time.Duration, person bool) error {
	// Before anything is started: who ends us meanwhile is obeyed when it runs, and leaves nothing behind.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	folder, err := makeFolder(folder)
	if err != nil {
		return err
	}
	defer remove(folder)
	diary, err := os.Create(filepath.Join(folder, "lab.log"))
	if err != nil {
		return err
	}
	log.SetOutput(diary)
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	ctx, cancel := context.WithCancel(context.Background())
	lines := make(chan string)
	go read(os.Stdin, lines, cancel)
	go func() {
		<-signals
		cancel()
	}()

	l := &lab{folder: folder}
	defer l.end()
	if err := l.start(ctx, binaries, log.Printf); err != nil {
		if ctx.Err() != nil {
			return nil // told to end before it stood
		}
		showLogs(folder)
		return err
	}
	if person {
		l.introduce()
	} else if err := say(l.said()); err != nil {
		return err
	}
	return l.serve(ctx, lines, time.After(life))
}

func makeFolder(folder string) (string, error) {
	if folder == "" {
		return os.MkdirTemp("", "portcullis-lab-")
	}
	folder, err := filepath.Abs(folder)
	if err != nil {
		return "", err
	}
	return folder, os.Mkdir(folder, 0o700)
}

// remove takes the folder away; the ingress' node may still write into it.
func remove(folder string) {
	for range removals {
		if os.RemoveAll(folder) == nil {
			return
		}
	}
}

func (l *lab) start(ctx context.Context, binaries string, logf logger.Logf) (err error) {
	if binaries, err = filepath.Abs(binaries); err != nil {
		return err
	}
	// The ingress' own node is within this process.
	envknob.SetNoLogsNoSupport()
	for _, name := range []string{"TS_ASSUME_NETWORK_UP_FOR_TEST", "TS_PANIC_IF_HIT_MAIN_CONTROL", "TS_DISABLE_PORTMAPPER"} {
		envknob.Setenv(name, "1")
	}
	netns.SetEnabled(false)
	if l.ca, err = newAuthority(); err != nil {
		return err
	}
	if l.tailnet, err = newTailnet(ctx, l.ca, logf); err != nil {
		return err
	}
	if l.ingress, err = newIngress(ctx, l.tailnet, l.folder, logf); err != nil {
		return err
	}
	if l.addresses, err = l.ingress.listen(); err != nil {
		return err
	}
	if l.node, err = newNode(ctx, binaries, l.folder, l.tailnet, l.ingress, l.ca); err != nil {
		return err
	}
	if err := os.WriteFile(l.node.caFile(), l.ca.pem, 0o644); err != nil {
		return err
	}
	if err := l.ca.put(l.node.certificates(), firstHostname+"."+magicDNSDomain); err != nil {
		return err
	}
	if err := l.node.start(); err != nil {
		return err
	}
	if err := l.node.logIn(); err != nil {
		return err
	}
	return l.node.waitRunning()
}

// serve obeys until there is a reason to end.
func (l *lab) serve(ctx context.Context, lines <-chan string, over <-chan time.Time) error {
	for {
		select {
		case line := <-lines:
			if line == "quit" {
				return nil
			}
			answer, err := l.obey(line)
			if err != nil {
				answer = map[string]any{"error": err.Error()}
			}
			if err := say(answer); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		case <-over:
			fmt.Fprintln(os.Stderr, "lab: its time is over")
			return nil
		}
	}
}

// end leaves nothing: what runs in this process goes with it.
func (l *lab) end() {
	if l.node != nil && l.node.runs() {
		if err := l.node.stop(syscall.SIGKILL); err != nil {
			fmt.Fprintln(os.Stderr, "lab:", err)
		}
	}
}

// said is what there is to know about the lab as it is.
func (l *lab) said() answer {
	said := answer{
		"socket":      l.node.socket(),
		"ingress":     l.addresses,
		"ca_file":     l.node.caFile(),
		"control_url": l.tailnet.url,
		"folder":      l.folder,
		"tailscale":   filepath.Join(l.node.binaries, "tailscale"),
		"pids":        l.pids(),
	}
	if name, err := l.node.name(); err == nil {
		said["dns_name"] = name
	}
	// What the node has told the control server about its wish for visitors, by which the public names are kept.
	if node := l.tailnet.control.Node(l.node.key); node != nil && node.Hostinfo.Valid() {
		said["ingress_enabled"], said["wire_ingress"] = node.Hostinfo.IngressEnabled(), node.Hostinfo.WireIngress()
	}
	return said
}

func (l *lab) pids() map[string]int {
	pids := map[string]int{"lab": os.Getpid()}
	if l.node.runs() {
		pids["tailscaled"] = l.node.process.Pid
	}
	return pids
}

func say(what answer) error {
	line, err := json.Marshal(what)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(append(line, '\n'))
	return err
}

// read passes lines on until there are no more, or one is too long. Then it is over.
func read(from io.Reader, lines chan<- string, over context.CancelFunc) {
	defer over()
	scanner := bufio.NewScanner(from)
	scanner.Buffer(make([]byte, maxLine), maxLine)
	for scanner.Scan() {
		lines <- scanner.Text()
	}
}

// showLogs says what went wrong, of each log its end.
func showLogs(folder string) {
	for _, name := range []string{"tailscale.log", "tailscaled.log", "lab.log"} {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		fmt.Fprintf(os.Stderr, "---- %s\n%s\n", name, text[max(0, len(text)-shownOfLog):])
	}
}
