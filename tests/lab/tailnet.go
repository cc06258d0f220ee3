package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tailscale.com/derp/derpserver"
	"tailscale.com/net/stunserver"
	"tailscale.com/tailcfg"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
)

const (
	loopback = "127.0.0.1"
	// The tailnet's own domain: a name below it is a node.
	magicDNSDomain = "tail-lab.ts.net"
	// Any key is let in; it opens nothing but this lab.
	authKey = "tskey-lab"
	// How long the control server and DERP wait for a request's head.
	headPatience = 10 * time.Second
	derpRegion   = 1
)

// What the tailnet's policy grants each node. The last keeps tailscaled from asking the world whether it is behind a portal.
var granted = []tailcfg.NodeCapability{
	tailcfg.CapabilityHTTPS,
	tailcfg.NodeAttrFunnel,
	tailcfg.CapabilityFunnelPorts + "?ports=443,8443,10000",
	tailcfg.NodeAttrDisableCaptivePortalDetection,
}

// tailnet is what stands for Tailscale's side: the control server, a relay and a STUN server, all on loopback.
type tailnet struct {
	control *testcontrol.Server
	url     string
}

func newTailnet(ctx context.Context, ca *authority, logf logger.Logf) (*tailnet, error) {
	relays, err := startRelay(ctx, ca, logf)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return nil, err
	}
	capabilities := tailcfg.NodeCapMap{}
	for _, capability := range granted {
		capabilities[capability] = nil
	}
	url := "http://" + listener.Addr().String()
	control := &testcontrol.Server{
		Logf:    logf,
		DERPMap: relays,
		// Without a DNS configuration the nodes are told of no domains for certificates.
		DNSConfig:               &tailcfg.DNSConfig{Proxied: true},
		MagicDNSDomain:          magicDNSDomain,
		DefaultNodeCapabilities: &capabilities,
		AllOnline:               true,
		ExplicitBaseURL:         url,
	}
	server := &http.Server{Handler: control, ReadHeaderTimeout: headPatience, ErrorLog: logger.StdLogger(logf)}
	go server.Serve(listener)
	return &tailnet{control: control, url: url}, nil
}

// startRelay starts DERP and STUN: a node is not Running before it has a relay.
func startRelay(ctx context.Context, ca *authority, logf logger.Logf) (*tailcfg.DERPMap, error) {
	stun := stunserver.New(ctx)
	if err := stun.Listen(net.JoinHostPort(loopback, "0")); err != nil {
		return nil, err
	}
	go stun.Serve()
	pair, err := ca.pair(loopback)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return nil, err
	}
	server := &http.Server{
		Handler:           derpserver.Handler(derpserver.New(key.NewNode(), logf)),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{pair}},
		ReadHeaderTimeout: headPatience,
		ErrorLog:          logger.StdLogger(logf),
		// A relay's connection is upgraded, which HTTP/2 does not do.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	go server.ServeTLS(listener, "", "")
	return &tailcfg.DERPMap{Regions: map[int]*tailcfg.DERPRegion{derpRegion: {
		RegionID:   derpRegion,
		RegionCode: "lab",
		Nodes: []*tailcfg.DERPNode{{
			Name:             "lab1",
			RegionID:         derpRegion,
			HostName:         loopback,
			IPv4:             loopback,
			IPv6:             "none",
			STUNPort:         stun.LocalAddr().(*net.UDPAddr).Port,
			DERPPort:         listener.Addr().(*net.TCPAddr).Port,
			InsecureForTests: true,
			STUNTestIP:       loopback,
		}},
	}}}, nil
}

// find returns the node that has a name, as a visitor's TLS spells it. Names are not unique here, and a node that has
// logged out is still known: the latest counts.
func (t *tailnet) find(name string) *tailcfg.Node {
	for _, node := range slices.Backward(t.control.AllNodes()) {
		if strings.EqualFold(strings.TrimSuffix(node.Name, "."), strings.TrimSuffix(name, ".")) {
			return node
		}
	}
	return nil
}

// peerAPI returns where a node takes what the ingress brings: it tells its port with its host information.
func peerAPI(node *tailcfg.Node) (netip.AddrPort, error) {
	if !node.Hostinfo.Valid() || len(node.Addresses) == 0 {
		return netip.AddrPort{}, errors.New("the node has said nothing about itself")
	}
	for _, service := range node.Hostinfo.Services().All() {
		if service.Proto == tailcfg.PeerAPI4 {
			return netip.AddrPortFrom(node.Addresses[0].Addr(), service.Port), nil
		}
	}
	return netip.AddrPort{}, errors.New("the node has no PeerAPI")
}

// change edits a node as an admin does in the console; every node is told at once.
func (t *tailnet) change(k key.NodePublic, edit func(*tailcfg.Node)) error {
	node := t.control.Node(k)
	if node == nil {
		return fmt.Errorf("the control server has no node %v", k.ShortString())
	}
	edit(node)
	t.control.UpdateNode(node)
	return nil
}

// setCapabilities grants a node what is named, and nothing else.
func (t *tailnet) setCapabilities(k key.NodePublic, capabilities []tailcfg.NodeCapability) error {
	return t.change(k, func(node *tailcfg.Node) {
		node.Capabilities = slices.Clone(capabilities)
		node.CapMap = tailcfg.NodeCapMap{}
		for _, capability := range capabilities {
			node.CapMap[capability] = nil
		}
	})
}
