//! What more living shares cost.

use std::time::{Duration, Instant};

use crate::kit::{Bench, Connection, KIB, Line, Plot, Portcullis, Setup, Table, cpu_seconds, median, memory, quantile, write_file};
use crate::store_of_shares::fill;

const LIFE: Duration = Duration::from_secs(24 * 3600);
/// How often each request is sent.
const TIMES: usize = 100;

struct Figure {
    shares: usize,
    start_ms: f64,
    list_ms: f64,
    create_ms: f64,
    revoke_ms: f64,
    resident: f64,
    idle_cpu_percent: f64,
}

pub(crate) fn run(bench: &mut Bench<'_>) {
    let counts: &[usize] = bench.extent.of(&[10, 100], &[10, 100, 1_000, 10_000], &[10, 100, 1_000, 10_000]);
    let idle = Duration::from_millis(bench.extent.of(200, 3_000, 6_000));
    let root = bench.folder("nas");
    write_file(&root.join("film.bin"), KIB);
    let figures: Vec<Figure> = counts
        .iter()
        .map(|count| {
            let setup = Setup::of(&root);
            let _ = std::fs::remove_dir_all(setup.state());
            fill(setup.state(), &root, "film.bin", *count, LIFE);
            measure(&setup.start(), *count, idle)
        })
        .collect();
    let mut table = Table::new([
        "living shares",
        "start, ms",
        "list p99, ms",
        "make one, ms",
        "close one, ms",
        "memory (RSS), MB",
        "idle, % of a core",
    ]);
    for one in &figures {
        table.row([
            one.shares.to_string(),
            format!("{:.0}", one.start_ms),
            format!("{:.2}", one.list_ms),
            format!("{:.2}", one.create_ms),
            format!("{:.2}", one.revoke_ms),
            format!("{:.1}", one.resident),
            format!("{:.2}", one.idle_cpu_percent),
        ]);
    }
    let marks: Vec<(f64, String)> = counts.iter().map(|count| (*count as f64, count.to_string())).collect();
    let line = |name: &str, of: fn(&Figure) -> f64| Line {
        name: name.to_owned(),
        points: figures.iter().map(|one| (one.shares as f64, of(one))).collect(),
    };
    let plot = |title: &str, up: &str, is_log, lines| Plot {
        title: title.to_owned(),
        across: "living shares".to_owned(),
        up: up.to_owned(),
        is_log,
        marks: marks.clone(),
        lines,
    };
    let time = vec![line("start", |one| one.start_ms), line("list p99", |one| one.list_ms), line("make one", |one| one.create_ms)];
    let plots = [
        plot("Time, by living shares", "milliseconds", true, time),
        plot("Memory, by living shares", "MB resident", false, vec![line("portcullis", |one| one.resident)]),
    ];
    let words = "Making and closing one touches that one, the heap of deadlines and the disk, so they stay level. A start reads every \
                 living share and opens its way in again, and memory holds every one with its link ready to be shown: both grow with \
                 the number. The list sorts all that live to find the newest, hence its slow rise.";
    bench.report.tell_with("growth-shares", "More living shares", &table, words, &plots);
}

fn measure(portcullis: &Portcullis, shares: usize, idle: Duration) -> Figure {
    let mut connection = Connection::open(portcullis.owner);
    let mut timed = |method: &str, path: &str, body: &str| {
        let request = portcullis.request(method, path, body);
        let began = Instant::now();
        let (status, answer) = connection.ask(&request, true);
        assert!(status < 300, "{method} {path}: {status} {}", String::from_utf8_lossy(&answer));
        (began.elapsed().as_secs_f64() * 1e3, answer)
    };
    let lists: Vec<f64> = (0..TIMES).map(|_| timed("GET", "/api/v1/shares?limit=100", "").0).collect();
    let (mut creates, mut ids) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let (took, answer) = timed("POST", "/api/v1/shares", r#"{"path":"film.bin"}"#);
        creates.push(took);
        let share: serde_json::Value = serde_json::from_slice(&answer).expect("JSON");
        ids.push(share["id"].as_str().expect("an id").to_owned());
    }
    let revokes: Vec<f64> = ids.iter().map(|id| timed("DELETE", &format!("/api/v1/shares/{id}"), "").0).collect();
    let before = cpu_seconds(portcullis.pid());
    std::thread::sleep(idle);
    Figure {
        shares,
        start_ms: portcullis.started_in.as_secs_f64() * 1e3,
        list_ms: quantile(lists, 0.99),
        create_ms: median(creates),
        revoke_ms: median(revokes),
        resident: memory(portcullis.pid()).resident as f64 / 1e6,
        idle_cpu_percent: (cpu_seconds(portcullis.pid()) - before) / idle.as_secs_f64() * 100.0,
    }
}
