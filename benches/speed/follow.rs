//! How a log is followed: a million lines that waited, and lines while they are written.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use portcullis::clock::SystemClock;
use portcullis::meter::access_log::{self, Foreign};
use portcullis::meter::log_tail::{Batch, follow};
use tokio::sync::mpsc;

use crate::kit::{Bench, Table, cpu_seconds_alone, in_turns, median, quantile, ratio};

/// How many batches may wait: as in the product.
const WAITING: usize = 4;
/// How long `tail` may go on reading when the last line is written.
const SETTLE: Duration = Duration::from_millis(300);

/// What is taken of a line: when it ended, and how much was sent.
type Read = Result<(i64, u64), Foreign>;

pub(crate) fn run(bench: &mut Bench<'_>) {
    backlog(bench);
    live(bench);
}

fn line(n: u64, at_ms: u128) -> String {
    format!(
        concat!(
            r#"{{"v":1,"t":"{}.{:03}","req":"ps8kkjt9ak.46eb226c04e23aeca1f1ee02ca1e4343.{n}-{m}.9f86d081884c7d659a2feaa0c55ad015","st":"206","body":"{n}","#,
            r#""sent":"{m}","ok":"OK","etag":"\"6741a2f0-a00000\"","peer":"203.0.113.77 51234","local":"10.0.0.1 8001","conn":"{n} 3"}}"#
        ),
        at_ms / 1000,
        at_ms % 1000,
        n = n,
        m = n + 262,
    )
}

/// Follows a log until so many lines were read. Returns how much CPU that took, and how late each line was known in milliseconds.
fn read(path: &Path, lines: usize, begun: impl FnOnce()) -> (f64, Vec<f64>) {
    let before = cpu_seconds_alone(std::process::id());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (sender, mut batches) = mpsc::channel::<Batch<Read>>(WAITING);
    let parse = |line: &[u8]| access_log::parse(line).map(|line| (line.at.0, line.body_bytes));
    follow(path.to_owned(), None, Arc::new(SystemClock::starting_after(None)), parse, sender).expect("a thread");
    begun();
    let (mut count, mut bytes, mut lags) = (0, 0, Vec::new());
    while count < lines {
        let batch = runtime.block_on(batches.recv()).expect("it goes on");
        let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later").as_millis() as f64;
        for read in &batch.lines {
            let (at, body) = read.expect("a line of ours");
            bytes += body;
            lags.push(now_ms - at as f64);
        }
        count += batch.lines.len();
    }
    assert!(bytes > 0 && count == lines, "each line is counted");
    (cpu_seconds_alone(std::process::id()) - before, lags)
}

fn backlog(bench: &mut Bench<'_>) {
    let lines = bench.extent.of(10_000, 1_000_000, 1_000_000);
    let path = bench.folder("backlog").join("access.log");
    let mut file = BufWriter::new(std::fs::File::create(&path).expect("a file"));
    for n in 0..lines {
        writeln!(file, "{}", line(n, 1_795_305_729_533)).expect("there is space");
    }
    file.flush().expect("there is space");
    let rounds = in_turns(bench.extent.of(1, 3, 5), 2, |which| {
        let began = Instant::now();
        let cpu = if which == 0 {
            let mut child = Command::new("tail").args(["-n", "+1"]).arg(&path).stdout(Stdio::null()).spawn().expect("tail is there");
            child.wait().expect("it ends");
            0.0
        } else {
            read(&path, lines as usize, || {}).0
        };
        (began.elapsed().as_secs_f64(), cpu)
    });
    let mut table = Table::new(["", "s", "CPU s", "lines/s"]);
    for (which, name) in ["tail -n +1, which reads nothing of a line", "portcullis"].into_iter().enumerate() {
        let seconds = median(rounds.iter().map(|round| round[which].0));
        let cpu = median(rounds.iter().map(|round| round[which].1));
        let cpu = if which == 0 { "–".to_owned() } else { format!("{cpu:.2}") };
        table.row([name.to_owned(), format!("{seconds:.2}"), cpu, format!("{:.0}", lines as f64 / seconds)]);
    }
    let words = "Wanted: at most 0.66 s of CPU for a million lines, parsed.";
    bench.report.tell("follow-backlog", &format!("{lines} lines of nginx's log that waited"), &table, words);
}

/// Writes lines one by one, as nginx does, each with the time.
fn writer(path: &Path, lines: u64, per_second: u64) -> Child {
    let template = line(1, 0).replacen("\"t\":\"0.000\"", "\"t\":\"%.3f\"", 1).replace('@', "\\@");
    let script = format!(
        "use Time::HiRes qw(time sleep); open(F, '>>', $ARGV[0]); my $begun = time; \
         for my $n (1..{lines}) {{ syswrite(F, sprintf(q|{template}|.chr(10), time)); \
         my $ahead = $begun + $n / {per_second} - time; sleep($ahead) if $ahead > 0.001; }}"
    );
    Command::new("perl").arg("-e").arg(script).arg(path).spawn().expect("perl is there")
}

fn live(bench: &mut Bench<'_>) {
    let (lines, per_second) = (bench.extent.of(2000, 200_000, 500_000), bench.extent.of(20_000, 50_000, 50_000));
    let folder = bench.folder("live");
    let mut file = 0;
    let rounds = in_turns(bench.extent.of(1, 3, 5), 2, |which| {
        file += 1;
        let path = folder.join(format!("{file}.log"));
        std::fs::write(&path, "").expect("a file");
        if which == 0 {
            let mut tail = Command::new("tail").arg("-F").arg(&path).stdout(Stdio::null()).spawn().expect("tail is there");
            writer(&path, lines, per_second).wait().expect("it ends");
            std::thread::sleep(SETTLE);
            let cpu = cpu_seconds_alone(tail.id());
            tail.kill().and_then(|()| tail.wait()).expect("it ends");
            (cpu, vec![0.0])
        } else {
            let mut child = None;
            let read = read(&path, lines as usize, || child = Some(writer(&path, lines, per_second)));
            child.expect("it was started").wait().expect("it ends");
            read
        }
    });
    let mut table = Table::new(["", "CPU s", "× tail -F", "a line is known after, p50 ms", "p99 ms", "at most"]);
    for (which, name) in ["tail -F, which reads nothing of a line", "portcullis"].into_iter().enumerate() {
        let lag = |part: f64| {
            let value = median(rounds.iter().map(|round| quantile(round[which].1.iter().copied(), part)));
            if which == 0 { "–".to_owned() } else { format!("{value:.0}") }
        };
        table.row([
            name.to_owned(),
            format!("{:.2}", median(rounds.iter().map(|round| round[which].0))),
            ratio(&rounds, which, 0, |figure| figure.0),
            lag(0.5),
            lag(0.99),
            lag(1.0),
        ]);
    }
    let words = "Wanted: at most 0.25 × the CPU of `tail -F`, and at most 20 ms. Each line is one write, as nginx does it.";
    bench.report.tell("follow-live", &format!("{lines} lines, {per_second} a second, while they are written"), &table, words);
}
