package main

import (
	"fmt"
	"net"
)

// introduce says to a person what there is, and what to type next.
func (l *lab) introduce() {
	said := l.said()
	name := said["dns_name"]
	fmt.Printf(`The lab is up: a real tailscaled, in a tailnet that ends at this machine's loopback.

  the node        %[1]v
  its socket      %[2]v
  control server  %[3]v
  logs            %[4]s/*.log

Open a door, in another terminal (foreground: it is shut when you press Ctrl-C there):

  python3 -m http.server 8000 --bind 127.0.0.1 &
  %[5]v --socket=%[2]v funnel 8000

Come in as a visitor from the internet does, through the ingress:

  curl --cacert %[6]v --resolve %[1]v:%[7]s:127.0.0.1 https://%[1]v:%[7]s/

Type a command here (%[8]s).
Ctrl-C ends everything; so does half an hour.
`, name, said["socket"], said["control_url"], l.folder, said["tailscale"], said["ca_file"], l.port("443"), commands)
}

func (l *lab) port(funnel string) string {
	_, port, _ := net.SplitHostPort(l.addresses[funnel])
	return port
}
