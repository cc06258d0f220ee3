// A real nginx before the product, where the whole of the tests is to run so: with TEST_DELIVERY=nginx in the environment.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';

/** As many as the machine that is promised has cores; who asks for `auto` gets dozens for each test on a larger one. */
const WORKERS = 'worker_processes 2;';

/** Returns whether nginx is to send the bytes, as the environment says. */
export function isBehindNginx() {
  const delivery = process.env.TEST_DELIVERY || 'embedded';
  if (!['nginx', 'embedded'].includes(delivery)) throw new Error(`TEST_DELIVERY is nginx or embedded, and not ${delivery}`);
  return delivery === 'nginx';
}

/** Returns why a test is left out where nginx sends the bytes, for node's `skip`: `tests/run` tells it by name. */
export function onlyEmbedded(reason) {
  return isBehindNginx() && reason;
}

/** An nginx of the test's own, which outlives the product's kills and restarts. */
export class Nginx {
  /** Makes the folder that it needs; it is not started. */
  constructor(folder) {
    this.folder = folder;
    mkdirSync(folder);
  }

  /** What the product is told, to answer it at this port. */
  settings(port) {
    return { DELIVERY: 'nginx', NGINX_UPSTREAM: `127.0.0.1:${port}`, NGINX_ACCESS_LOG: path.join(this.folder, 'access.log') };
  }

  /** Starts it with the configuration that the product prints, and waits until it listens at `port`. */
  async start(program, root, env, port, until) {
    const { stdout } = await promisify(execFile)(program, ['nginx-config', root, '--standalone', '--run-dir', this.folder], { env });
    if (!stdout.includes('worker_processes auto;')) throw new Error(`the configuration is no whole one:\n${stdout}`);
    const file = path.join(this.folder, 'nginx.conf');
    writeFileSync(file, stdout.replace('worker_processes auto;', WORKERS));
    // Its workers are of the same account as the product, which a root's would not be by themselves.
    const user = process.getuid() === 0 ? 'user root; ' : '';
    const said = path.join(this.folder, 'stderr');
    const stderr = openSync(said, 'w');
    const env_of_its_own = { PATH: '/usr/sbin:/usr/local/sbin:/usr/bin' };
    this.process = spawn('nginx', ['-p', this.folder, '-c', file, '-e', 'stderr', '-g', `${user}daemon off;`], { env: env_of_its_own, stdio: ['ignore', 'ignore', stderr] });
    closeSync(stderr);
    let failed;
    this.process.on('error', (error) => { failed = error; });
    await until('nginx listens', () => {
      if (failed || this.process.exitCode !== null) throw new Error(`nginx does not start: ${failed ?? readFileSync(said, 'utf8')}`);
      // It writes this once it listens itself; whoever listens there before may be another.
      return existsSync(path.join(this.folder, 'nginx.pid')) && answers(port);
    });
  }

  /** Ends it with its workers at once, whatever they send. */
  async stop() {
    if (!this.process?.kill('SIGTERM')) return;
    if (this.process.exitCode === null && this.process.signalCode === null) await once(this.process, 'exit');
  }
}

/** Returns whether somebody listens there. */
export async function answers(port) {
  const socket = net.connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
