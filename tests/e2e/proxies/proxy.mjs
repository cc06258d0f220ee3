// The proxies that people have, run by the very files of compose/proxies; only addresses are put in their place.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { answers } from '../nginx.mjs';
import { until } from '../until.mjs';

const examples = fileURLToPath(new URL('../../../compose/proxies/', import.meta.url));
/** Where tests/e2e/proxies/build puts it. */
export const TRAEFIK = fileURLToPath(new URL('../../../target/proxies/traefik', import.meta.url));

/** Puts one text in the place of another, wherever that stands; it must stand somewhere, or the file is another than is meant. */
function put(text, ...pairs) {
  return pairs.reduce((whole, [old, now]) => {
    if (!whole.includes(old)) throw new Error(`the example has no ${JSON.stringify(old)}:\n${whole}`);
    return whole.replaceAll(old, now);
  }, text);
}

const example = (name) => readFileSync(path.join(examples, name), 'utf8');

/** A certificate for the public name, as an owner would have one. */
function certificate(folder) {
  const [cert, key] = ['cert.pem', 'key.pem'].map((name) => path.join(folder, name));
  const subject = ['-subj', '/CN=files.example.org', '-addext', 'subjectAltName=DNS:files.example.org'];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-keyout', key, '-out', cert, ...subject],
    { stdio: 'ignore' });
  return { cert, key };
}

/** Writes what each needs, and returns its program and arguments. `takesOff`: it takes the path off before it asks. */
const PROXIES = {
  nginx({ folder, lan, world, owner, recipient, takesOff }) {
    const { cert, key } = certificate(folder);
    let site = put(example('nginx.conf'),
      ['listen 80;', `listen 127.0.0.1:${lan};`], ['listen 443 ssl;', `listen 127.0.0.1:${world} ssl;`],
      ['/etc/ssl/files.example.org.pem', cert], ['/etc/ssl/files.example.org.key', key],
      ['127.0.0.1:8000', `127.0.0.1:${owner}`], ['127.0.0.1:8001', `127.0.0.1:${recipient}`]);
    if (takesOff) {
      site = put(site, ['location /portcullis {', 'location /portcullis/ {'],
        [`http://127.0.0.1:${owner};`, `http://127.0.0.1:${owner}/;`], [`http://127.0.0.1:${recipient};`, `http://127.0.0.1:${recipient}/;`]);
    }
    writeFileSync(path.join(folder, 'site.conf'), site);
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder}/${name};`).join(' ');
    const user = process.getuid() === 0 ? 'user root;' : '';
    writeFileSync(path.join(folder, 'nginx.conf'),
      `${user} pid ${folder}/nginx.pid; worker_processes 1; events {} http { access_log off; ${temporary} include ${folder}/site.conf; }`);
    return ['nginx', ['-p', folder, '-c', path.join(folder, 'nginx.conf'), '-e', 'stderr', '-g', 'daemon off;']];
  },

  caddy({ folder, lan, world, owner, recipient, takesOff }) {
    let site = put(example('Caddyfile'), ['127.0.0.1:8000', `127.0.0.1:${owner}`], ['127.0.0.1:8001', `127.0.0.1:${recipient}`]);
    if (takesOff) site = put(site, ['handle /portcullis*', 'handle_path /portcullis/*'], ['handle /get/*', 'handle_path /get/*']);
    // A certificate of its own making, no port that needs privilege, nothing that it shares with another Caddy.
    const mine = `{\n\tadmin off\n\tlocal_certs\n\tskip_install_trust\n\tauto_https disable_redirects\n\thttp_port ${lan}\n\thttps_port ${world}\n`
      + `\tdefault_bind 127.0.0.1\n\tservers {\n\t\tprotocols h1 h2\n\t}\n}\n`;
    writeFileSync(path.join(folder, 'Caddyfile'), mine + site);
    return ['caddy', ['run', '--config', path.join(folder, 'Caddyfile'), '--adapter', 'caddyfile']];
  },

  traefik({ folder, lan, world, owner, recipient, takesOff }) {
    const sites = path.join(folder, 'portcullis.yml');
    writeFileSync(path.join(folder, 'traefik.yml'), put(example('traefik.yml'),
      ['":80"', `"127.0.0.1:${lan}"`], ['":443"', `"127.0.0.1:${world}"`], ['/etc/traefik/portcullis.yml', sites]));
    let site = put(example('traefik-portcullis.yml'), ['127.0.0.1:8000', `127.0.0.1:${owner}`], ['127.0.0.1:8001', `127.0.0.1:${recipient}`]);
    if (takesOff) {
      site = put(site, ['service: owners\n', 'service: owners\n      middlewares: [off]\n'], ['service: recipients\n', 'service: recipients\n      middlewares: [off]\n'],
        ['  services:\n', '  middlewares:\n    off:\n      stripPrefix:\n        prefixes: [/portcullis, /get]\n\n  services:\n']);
    }
    writeFileSync(sites, site);
    return [TRAEFIK, [`--configFile=${path.join(folder, 'traefik.yml')}`]];
  },
};

/** A proxy of the test's own, which listens once this has returned. */
export class Proxy {
  static async start(name, options) {
    const proxy = new Proxy();
    mkdirSync(options.folder, { recursive: true });
    const [program, args] = PROXIES[name](options);
    const said = path.join(options.folder, 'said');
    const log = openSync(said, 'w');
    const env = { PATH: '/usr/sbin:/usr/local/sbin:/usr/bin:/bin', HOME: options.folder, XDG_DATA_HOME: options.folder, XDG_CONFIG_HOME: options.folder };
    proxy.process = spawn(program, args, { env, cwd: options.folder, stdio: ['ignore', log, log] });
    closeSync(log);
    let failed;
    proxy.process.on('error', (error) => { failed = error; });
    await until(`${name} listens`, async () => {
      if (failed || proxy.process.exitCode !== null) throw new Error(`${name} does not start: ${failed ?? readFileSync(said, 'utf8')}`);
      return (await Promise.all([options.lan, options.world].map(answers))).every(Boolean);
    });
    return proxy;
  }

  async stop() {
    this.process.kill('SIGKILL');
    if (this.process.exitCode === null && this.process.signalCode === null) await once(this.process, 'exit');
  }
}
