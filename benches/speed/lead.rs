//! How far the counter of sent bytes runs ahead of a recipient who takes 1 MB/s and leaves after some seconds.
//!
//! nginx's counter is what it writes into its log; ours is what the owner sees while it goes on and when it is over.

use std::fs;
use std::time::Duration;

use crate::kit::{Bench, Crowd, KIB, MIB, Nginx, Pull, Setup, Table, median, write_file};

const RATE: u64 = 1_000_000;
/// How long the owner's view may take to show the end of a request.
const UNTIL_TOLD: Duration = Duration::from_millis(1500);

struct Figure {
    read: f64,
    counted: f64,
    /// The most that the counter was ahead of the reader while it went on.
    most_ahead: f64,
}

pub(crate) fn run(bench: &mut Bench<'_>) {
    let time = Duration::from_millis(bench.extent.of(500, 3_000, 3_000));
    let root = bench.folder("nas");
    write_file(&root.join("film.bin"), 64 * MIB);
    let (nginx, portcullis) = (Nginx::start(&root), Setup::of(&root).start());
    let rounds = bench.extent.of(1, 3, 5);
    let of_nginx: Vec<Figure> = (0..rounds).map(|_| beside_nginx(&nginx, time)).collect();
    let ours: Vec<Figure> = (0..rounds).map(|_| beside_portcullis(&portcullis, time)).collect();

    let mut table = Table::new(["", "read", "counted at the end", "ahead at the end", "most ahead meanwhile"]);
    for (name, figures) in [("nginx", &of_nginx), ("portcullis", &ours)] {
        let of = |figure: fn(&Figure) -> f64| median(figures.iter().map(figure)) / KIB as f64;
        let meanwhile = of(|figure| figure.most_ahead);
        table.row([
            name.to_owned(),
            format!("{:.0} KiB", of(|figure| figure.read)),
            format!("{:.0} KiB", of(|figure| figure.counted)),
            format!("{:.0} KiB", of(|figure| figure.counted - figure.read)),
            if meanwhile.is_nan() { "it does not say".to_owned() } else { format!("{meanwhile:.0} KiB") },
        ]);
    }
    let words = "Wanted: at most 128 KiB. What is counted is what the recipient's kernel acknowledged; the lead is what lies in that \
                 kernel and was not read.";
    bench.report.tell("lead", "A recipient of 1 MB/s who leaves: what is counted, and what they had", &table, words);
}

fn beside_nginx(nginx: &Nginx, time: Duration) -> Figure {
    let mut crowd = Crowd::connect(nginx.address, &["/film.bin".to_owned()]);
    crowd.pull(Pull::PerSecond(RATE), time, || {});
    let read = crowd.got() as f64;
    drop(crowd);
    std::thread::sleep(UNTIL_TOLD);
    let log = fs::read_to_string(&nginx.log).expect("nginx writes its log");
    // The usual format: address, time, "request", status, bytes of the body, …
    let counted = log.lines().last().and_then(|line| line.split('"').nth(2)?.split_whitespace().nth(1)?.parse::<f64>().ok());
    Figure { read, counted: counted.expect("the log tells of the request"), most_ahead: f64::NAN }
}

fn beside_portcullis(portcullis: &crate::kit::Portcullis, time: Duration) -> Figure {
    let offer = portcullis.share("film.bin", 1);
    let transfer = portcullis.redeem(&offer);
    let counted = || {
        let share = portcullis.ask("GET", &format!("/api/v1/shares/{}", offer.id), "");
        share["progress"]["delivered_bytes"].as_f64().unwrap_or_else(|| panic!("no progress: {share}"))
    };
    let mut crowd = Crowd::connect(portcullis.address, &[transfer]);
    let mut most_ahead = f64::NEG_INFINITY;
    let steps = 10;
    for _ in 0..steps {
        // First the reader, then the counter: it may only have grown since.
        crowd.pull(Pull::PerSecond(RATE), time / steps, || {});
        let read = crowd.got() as f64;
        most_ahead = most_ahead.max(counted() - read);
    }
    let read = crowd.got() as f64;
    drop(crowd);
    std::thread::sleep(UNTIL_TOLD);
    Figure { read, counted: counted(), most_ahead }
}
