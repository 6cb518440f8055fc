//! `onwire bench request`: unmodified servers under their own loads: redis with redis-benchmark,
//! nginx with wrk, memcached with a small loader of ours (Debian has none).

use crate::bench::{Bench, Common, PATIENCE, find_on_path};
use crate::children::Program;
use crate::figures::Figures;
use crate::latency::{Stack, address, parse_seconds};
use crate::machine::Machine;
use crate::namespaces::Side;
use crate::page::Page;
use crate::role::{Outcome, Ready};
use crate::ways::{Way, Ways, in_turns, with_stack};
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde_json::json;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

/// The options.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    ways: Ways,
    /// Which servers and loads
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "redis,redis-pipeline,nginx,nginx-memory,nginx-close,memcached"
    )]
    work: Vec<Work>,
    /// Connections of the load
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// Threads of memcached (redis has one, nginx one worker)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
    /// Queue pairs of onwire's devices, each with a shard
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    queues: u32,
    /// Seconds to measure each way in each round
    #[arg(long, default_value_t = 2.0, value_parser = parse_seconds)]
    seconds: f64,
}

/// A server with its load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    /// redis-benchmark, GET, one request at a time on each connection
    Redis,
    /// redis-benchmark, GET, 16 requests at a time
    RedisPipeline,
    /// wrk, 1 KiB that nginx reads from a file, connections kept
    Nginx,
    /// wrk, 1 KiB that nginx has in its memory, connections kept
    NginxMemory,
    /// wrk, 1 KiB from nginx, a connection for each request
    NginxClose,
    /// memcached, `get` of 64 octets
    Memcached,
}

impl Work {
    fn title(self, args: &Args) -> String {
        let (clients, threads) = (args.clients, args.threads);
        let what = match self {
            Work::Redis => "redis GET, no pipeline",
            Work::RedisPipeline => "redis GET, pipeline 16",
            Work::Nginx => "nginx 1 KiB, connections kept",
            Work::NginxMemory => "nginx 1 KiB from memory, connections kept",
            Work::NginxClose => "nginx 1 KiB, new connection each",
            Work::Memcached if threads > 1 => {
                return format!("memcached get, 64 octets, {threads} threads, {clients} clients");
            }
            Work::Memcached => "memcached get, 64 octets",
        };
        format!("{what}, {clients} clients")
    }

    fn programs(self) -> &'static [&'static str] {
        match self {
            Work::Redis | Work::RedisPipeline => &["redis-server", "redis-benchmark"],
            Work::Nginx | Work::NginxMemory | Work::NginxClose => &["nginx", "wrk"],
            Work::Memcached => &["memcached"],
        }
    }

    /// Requests under way on each connection.
    fn pipeline(self) -> u64 {
        if self == Work::RedisPipeline { 16 } else { 1 }
    }

    fn port(self) -> u16 {
        match self {
            Work::Redis | Work::RedisPipeline => 6379,
            Work::Nginx | Work::NginxMemory | Work::NginxClose => 8080,
            Work::Memcached => 11_211,
        }
    }
}

/// Measures and prints.
pub fn run(args: &Args) -> Result<ExitCode> {
    let onwire = args.ways.onwire(&args.common)?;
    let mut machine = Machine::look();
    for program in args.work.iter().flat_map(|work| work.programs()) {
        find_on_path(program).context("choose others with --work, or install it")?;
    }
    let mut bench = Bench::set_up(&args.common)?;
    bench.end_time_wait_soon();
    if args.queues > 1 {
        bench.set("ONWIRE_QUEUES", args.queues);
    }
    prepare_nginx(&bench)?;
    // These programs wait as they do: there is one way of the kernel's.
    let ways: Vec<Way> =
        args.ways.only.iter().copied().filter(|way| *way != Way::KernelSpinning).collect();
    let mut all: Vec<Figures> = args
        .work
        .iter()
        .map(|work| Figures::new(work.title(args), "requests per second", &ways))
        .collect();
    let modes: Vec<(usize, Way)> =
        (0..args.work.len()).flat_map(|work| ways.iter().map(move |&way| (work, way))).collect();
    let name =
        |&(work, way): &(usize, Way)| format!("{}: {}", way.name(), args.work[work].title(args));
    let measure = |&(work, way): &(usize, Way)| {
        with_stack(&bench, onwire.as_ref(), (way, args.ways.link), |stack| {
            measure(&bench, stack, args.work[work], args)
        })
    };
    in_turns(&bench, args.common.rounds, &modes, name, measure, |&(work, way), rate| {
        all[work].add(way, rate);
        Ok(())
    })?;
    machine.cores_apart = Some(bench.apart().borrow().clone());
    all.iter_mut().for_each(|figures| figures.compare(true));
    let page = Page {
        on: bench.on(),
        title: "onwire bench request".to_owned(),
        text: all.iter().map(|figures| figures.table() + "\n").collect(),
        plots: Vec::new(),
        json: json!({ "machine": machine, "on": bench.on(), "results": all }),
    };
    page.publish(&args.common, &machine)?;
    Ok(ExitCode::SUCCESS)
}

fn measure(bench: &Bench, stack: Stack<'_>, work: Work, args: &Args) -> Result<f64> {
    let at = address(stack, Side::Server);
    let words = server_words(bench, work, at, args.threads);
    let mut server = bench.start_on("the server", stack, Side::Server, words)?;
    if let Some((_, wire)) = stack {
        wire.wait_for(&mut server)?;
    }
    let requests = match work {
        Work::Memcached => load_memcached(bench, stack, at, args)?,
        _ => load(bench, stack, work, at, args)?,
    };
    if let Some((onwire, _)) = stack {
        // Pipelined requests share segments; the others have at least one each way.
        let segments = match work {
            Work::Redis | Work::RedisPipeline => asked_of_redis(work, args) / work.pipeline() / 2,
            _ => (requests * args.seconds * 0.5) as u64,
        };
        let wanted = [("tcp.segments_in", segments), ("tcp.segments_out", segments)];
        onwire.require(bench, server.pid(), &wanted).context("the server")?;
    }
    server.end();
    Ok(requests)
}

fn server_words(bench: &Bench, work: Work, at: IpAddr, threads: u32) -> Vec<String> {
    let (at, port) = (at.to_string(), work.port().to_string());
    let threads = threads.to_string();
    let configuration = nginx_file(bench);
    let words: Vec<&str> = match work {
        Work::Redis | Work::RedisPipeline => vec![
            "redis-server",
            "--save",
            "",
            "--appendonly",
            "no",
            "--protected-mode",
            "no",
            "--bind",
            &at,
            "--port",
            &port,
        ],
        Work::Nginx | Work::NginxMemory | Work::NginxClose => {
            vec!["nginx", "-c", &configuration]
        }
        Work::Memcached => {
            vec!["memcached", "-u", "root", "-l", &at, "-p", &port, "-U", "0", "-t", &threads]
        }
    };
    words.into_iter().map(str::to_owned).collect()
}

fn nginx_file(bench: &Bench) -> String {
    bench.directory().join("nginx.conf").display().to_string()
}

fn prepare_nginx(bench: &Bench) -> Result<()> {
    let root = bench.directory().display().to_string();
    let content = "x".repeat(1024);
    std::fs::write(bench.directory().join("1k"), &content)?;
    std::fs::write(
        bench.directory().join("nginx.conf"),
        format!(
            "user root; worker_processes 1; daemon off; master_process off; pid {root}/nginx.pid;\n\
             error_log {root}/nginx-error.log; events {{ worker_connections 12000; }}\n\
             http {{ access_log off; keepalive_requests 100000000; sendfile off;\n\
             client_body_temp_path {root}/t1; proxy_temp_path {root}/t2;\n\
             fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;\n\
             server {{ listen 8080 backlog=12000; root {root};\n\
             location = /memory {{ return 200 \"{content}\"; }} }} }}\n"
        ),
    )?;
    Ok(())
}

/// Runs an unmodified load; its requests per second. It is started again while the server, which
/// does not say when it listens, refuses it.
fn load(bench: &Bench, stack: Stack<'_>, work: Work, at: IpAddr, args: &Args) -> Result<f64> {
    let time = Duration::from_secs_f64(args.seconds);
    let words = load_words(work, at, args);
    let mut attempts_left = 20;
    loop {
        std::thread::sleep(Duration::from_millis(250));
        let mut client = bench.start_on("the load", stack, Side::Client, words.clone())?;
        let said = client.remaining_lines(2 * PATIENCE + 40 * time)?;
        let ended = client.finish(PATIENCE);
        attempts_left -= 1;
        match (ended, rate_of(work, &said)) {
            (Ok(()), Some(rate)) => return Ok(rate),
            _ if attempts_left > 0 && !said.iter().any(|line| line.contains("Socket errors")) => {}
            (Err(error), _) => return Err(error.context(said.join("\n"))),
            (Ok(()), None) => bail!("the load said nothing useful:\n{}", said.join("\n")),
        }
    }
}

fn load_words(work: Work, at: IpAddr, args: &Args) -> Vec<String> {
    let (at, port) = (at.to_string(), work.port().to_string());
    let clients = args.clients.to_string();
    let seconds = format!("{}s", args.seconds.ceil());
    let page = if work == Work::NginxMemory { "memory" } else { "1k" };
    let url = format!("http://{at}:{port}/{page}");
    let requests = asked_of_redis(work, args).to_string();
    let pipeline = work.pipeline().to_string();
    let words: Vec<&str> = match work {
        Work::Redis | Work::RedisPipeline => vec![
            "redis-benchmark",
            "-h",
            &at,
            "-p",
            &port,
            "-t",
            "get",
            "-n",
            &requests,
            "-c",
            &clients,
            "-P",
            &pipeline,
            "--csv",
        ],
        Work::Nginx | Work::NginxMemory => {
            vec!["wrk", "-t", "1", "-c", &clients, "-d", &seconds, &url]
        }
        Work::NginxClose => {
            vec!["wrk", "-t", "1", "-c", &clients, "-d", &seconds, "-H", "Connection: close", &url]
        }
        Work::Memcached => Vec::new(),
    };
    words.into_iter().map(str::to_owned).collect()
}

/// How many requests redis-benchmark makes, which knows no time: enough for the wanted one at what a
/// kernel does on a small machine; onwire is done earlier.
fn asked_of_redis(work: Work, args: &Args) -> u64 {
    let rate = if work == Work::RedisPipeline { 150_000.0 } else { 30_000.0 };
    ((args.seconds * rate) as u64).max(1)
}

/// Requests per second as the load prints them.
fn rate_of(work: Work, said: &[String]) -> Option<f64> {
    match work {
        Work::Redis | Work::RedisPipeline => {
            let line = said.iter().find(|line| line.starts_with("\"GET"))?;
            line.split(',').nth(1)?.trim_matches('"').parse().ok()
        }
        _ => {
            let failed =
                |line: &&String| line.contains("Socket errors") || line.contains("Non-2xx");
            if said.iter().any(|line| failed(&line)) {
                return None;
            }
            let line = said.iter().find_map(|line| line.strip_prefix("Requests/sec:"))?;
            line.trim().parse().ok().filter(|rate: &f64| *rate > 0.0)
        }
    }
}

fn load_memcached(bench: &Bench, stack: Stack<'_>, at: IpAddr, args: &Args) -> Result<f64> {
    let address = format!("{at}:{}", Work::Memcached.port());
    let clients = args.clients.to_string();
    let milliseconds = ((args.seconds * 1000.0) as u64).to_string();
    let words = bench.role(&["memcached-load", &address, &clients, "64", &milliseconds]);
    let mut client: Program = bench.start_on("the load", stack, Side::Client, words)?;
    let _: Ready = client.message(PATIENCE)?;
    client.go_on()?;
    let outcome: Outcome = client.message(PATIENCE + Duration::from_secs_f64(args.seconds))?;
    client.go_on()?;
    client.finish(PATIENCE)?;
    ensure!(outcome.sent > 0, "nothing was asked");
    Ok(outcome.sent as f64 / args.seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loads_own_words_become_rates() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let redis = "\"test\",\"rps\",\"avg\"\n\"GET\",\"81234.50\",\"0.3\"";
        assert_eq!(rate_of(Work::Redis, &lines(redis)), Some(81_234.5));
        let wrk = "  2 threads\nRequests/sec:  51234.10\nTransfer/sec: 1MB";
        assert_eq!(rate_of(Work::Nginx, &lines(wrk)), Some(51_234.1));
        let failed = "  Socket errors: connect 3, read 0\nRequests/sec:  51234.10";
        assert_eq!(rate_of(Work::Nginx, &lines(failed)), None);
        assert_eq!(rate_of(Work::Redis, &[]), None);
    }
}
