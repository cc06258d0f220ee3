package main

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"tailscale.com/ipn/ipnstate"
	"tailscale.com/tailcfg"
)

// A hostname as Tailscale makes them of what people type.
var hostname = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// answer is what is said to a command, as one line of JSON.
type answer map[string]any

// obey does what a line says. Each command returns when tailscaled itself says that it is so.
func (l *lab) obey(line string) (answer, error) {
	command, argument, _ := strings.Cut(strings.TrimSpace(line), " ")
	switch command {
	case "status":
		return l.said(), nil
	case "kill-tailscaled":
		return l.done(l.node.stop(syscall.SIGKILL))
	case "start-tailscaled":
		return l.done(l.startAgain())
	case "restart-tailscaled":
		return l.done(errors.Join(l.node.stop(syscall.SIGTERM), l.startAgain()))
	case "rename":
		return l.done(l.rename(argument))
	case "expire-key":
		return l.done(l.setKeyExpiry(time.Now().Add(-time.Minute), "NeedsLogin"))
	case "renew-key":
		return l.done(errors.Join(l.setKeyExpiry(time.Time{}, "Running"), l.node.waitRunning()))
	case "remove-cap":
		return l.done(l.removeCapability(argument))
	case "restore-caps":
		return l.done(l.setCapabilities(granted))
	case "ingress-src":
		return l.done(l.setSource(argument))
	case "certify":
		return l.done(l.certify(argument))
	case "counts":
		return l.counts(), nil
	default:
		return nil, fmt.Errorf("there is no command %q; there are: %s", command, commands)
	}
}

const commands = "status, kill-tailscaled, start-tailscaled, restart-tailscaled, rename NAME, expire-key, renew-key, " +
	"remove-cap funnel|https|funnel-ports, restore-caps, ingress-src IP:PORT|-, certify HOSTNAME FOLDER, counts, quit"

func (l *lab) done(err error) (answer, error) {
	if err != nil {
		return nil, err
	}
	return l.said(), nil
}

func (l *lab) startAgain() error {
	if err := l.node.start(); err != nil {
		return err
	}
	return l.node.waitRunning()
}

// rename gives the node another name, as when its owner edits it: a certificate is there before anybody asks.
func (l *lab) rename(to string) error {
	if !hostname.MatchString(to) {
		return fmt.Errorf("%q is no hostname", to)
	}
	name := to + "." + magicDNSDomain
	if l.tailnet.find(name) != nil {
		return fmt.Errorf("there is a node %s already", name)
	}
	if err := l.ca.put(l.node.certificates(), name); err != nil {
		return err
	}
	// The test control server makes the certificate's domain of what the node calls itself, and never changes a node's name.
	if err := l.node.tailscale("set", "--hostname="+to); err != nil {
		return err
	}
	if err := l.node.waitFor("the control server has heard the hostname", func(*ipnstate.Status) bool {
		node := l.tailnet.control.Node(l.node.key)
		return node != nil && node.Hostinfo.Hostname() == to
	}); err != nil {
		return err
	}
	if err := l.tailnet.change(l.node.key, func(node *tailcfg.Node) { node.Name = name + "." }); err != nil {
		return err
	}
	return l.node.waitFor("tailscaled knows its name", func(status *ipnstate.Status) bool {
		return status.Self.DNSName == name+"." && slices.Equal(status.CertDomains, []string{name})
	})
}

// certify puts a certificate where another node looks for it: one that is not the lab's own.
func (l *lab) certify(arguments string) error {
	name, folder, _ := strings.Cut(arguments, " ")
	if !hostname.MatchString(name) || !filepath.IsAbs(folder) {
		return fmt.Errorf("%q is no hostname and a folder", arguments)
	}
	return l.ca.put(folder, name+"."+magicDNSDomain)
}

// setKeyExpiry says until when the node's key is valid; zero: for ever.
func (l *lab) setKeyExpiry(until time.Time, state string) error {
	if err := l.tailnet.change(l.node.key, func(node *tailcfg.Node) { node.KeyExpiry = until }); err != nil {
		return err
	}
	return l.node.waitFor("tailscaled is "+state, func(status *ipnstate.Status) bool { return status.BackendState == state })
}

func (l *lab) removeCapability(which string) error {
	prefixes := map[string]string{
		"funnel":       string(tailcfg.NodeAttrFunnel),
		"https":        string(tailcfg.CapabilityHTTPS),
		"funnel-ports": string(tailcfg.CapabilityFunnelPorts) + "?",
	}
	unwanted, ok := prefixes[which]
	if !ok {
		return fmt.Errorf("there is no capability %q here", which)
	}
	node := l.tailnet.control.Node(l.node.key)
	if node == nil {
		return errors.New("the control server does not know the node")
	}
	return l.setCapabilities(slices.DeleteFunc(node.Capabilities, func(have tailcfg.NodeCapability) bool {
		name, _, isPorts := strings.Cut(string(have), "?")
		return string(have) == unwanted || isPorts && name+"?" == unwanted
	}))
}

// setCapabilities grants the node what is named, and waits until tailscaled has heard of it.
func (l *lab) setCapabilities(capabilities []tailcfg.NodeCapability) error {
	if err := l.tailnet.setCapabilities(l.node.key, capabilities); err != nil {
		return err
	}
	return l.node.waitFor("tailscaled knows its capabilities", func(status *ipnstate.Status) bool {
		return !slices.ContainsFunc(granted, func(one tailcfg.NodeCapability) bool {
			return status.Self.HasCap(one) != slices.Contains(capabilities, one)
		})
	})
}

// setSource says which address the ingress tells as the visitor's.
func (l *lab) setSource(text string) error {
	if text == "-" {
		l.ingress.source.Store(nil)
		return nil
	}
	source, err := netip.ParseAddrPort(text)
	if err == nil {
		l.ingress.source.Store(&source)
	}
	return err
}

func (l *lab) counts() answer {
	c := &l.ingress.counts
	return answer{
		"accepted": c.Accepted.Load(), "unnamed": c.Unnamed.Load(), "unknown": c.Unknown.Load(),
		"unreached": c.Unreached.Load(), "refused": c.Refused.Load(), "brought": c.Brought.Load(),
		"open": c.Open.Load(), "to_node": c.ToNode.Load(), "to_visitor": c.ToVisitor.Load(),
	}
}
