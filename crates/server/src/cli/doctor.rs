//! `anser doctor`: whether a server would run here, and what it would promise.
//!
//! Each module looks at one thing: what it sees are plain facts, and a pure function says what to think of
//! them. Looking changes nothing, but for a file that is measured with and removed.

use std::path::Path;

use clap::Args;

use super::place::Place;
use crate::config::Config;
use crate::config::layers::Layers;
use crate::config::problem::Problems;
use crate::config::table;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::out;
use clock::Clock;
use descriptors::Limit;
use disk::Disk;
use finding::{Finding, Report};
use folder::Folder;
use kernel::{Kernel, Load};
use ports::Port;
use promises::{PushKey, Terms};
use resources::{Needs, Resources};
use running::Running;

mod clock;
mod descriptors;
mod disk;
mod finding;
mod folder;
mod kernel;
mod ports;
mod promises;
mod resources;
mod running;
mod units;

/// The arguments.
#[derive(Debug, Args)]
#[command(
    after_help = "Give it the same --data, --config, --set and ANSER_ variables as the server, and run it as the \
user that the server runs as. It works with and without a running server, takes two seconds at most on a \
slow disk, and changes nothing.

The exit code is 0 unless there is a problem; then it is that of the first one (`anser --help` lists them)."
)]
pub struct Doctor {
    #[command(flatten)]
    place: Place,
    /// Print one JSON object instead of lines for people
    #[arg(long)]
    json: bool,
}

impl Doctor {
    /// Looks at everything, and tells it. A problem is the exit code; it has been told by then.
    pub fn run(self) -> Result<(), Failure> {
        let report = examine(&self.place)?;
        out::write(&if self.json { format!("{}\n", report.json()) } else { report.text() })?;
        match report.exit() {
            Exit::Ok => Ok(()),
            exit => Err(Failure { exit, messages: Vec::new() }),
        }
    }
}

fn examine(place: &Place) -> Result<Report, Failure> {
    let start = clock::Start::now();
    let (layers, data) = (place.layers(), &*place.data);
    let mut report = Report::default();
    let folder = Folder::look(data);
    let config = match layers.load() {
        Ok(loaded) => {
            report.findings.push(Finding::ok("configuration", source(&layers, loaded.origins.len())));
            Some(loaded.config)
        }
        Err(problems) => {
            report.findings.extend(wrong(&problems));
            None
        }
    };
    report.findings.extend(folder.judge());
    let key = PushKey::look(data);
    report.findings.extend(key.judge(data));
    report.findings.extend(folder.writable().map(|folder| Disk::judge(&Disk::measure(folder), folder)));
    match &config {
        Some(config) => examine_settings(config, &folder, &mut report.findings)?,
        None => report.findings.push(Finding::note(
            "configuration",
            "ports, limits and the running server were not looked at",
            "correct the configuration and run this again",
        )),
    }
    report.findings.push(Clock::look(start, data).judge());
    report.promises = config.map(|config| terms(&config, key, &folder).promises()).unwrap_or_default();
    Ok(report)
}

/// All that depends on what is configured.
fn examine_settings(config: &Config, folder: &Folder, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let running = super::runtime()?.block_on(Running::look(config.http.bind));
    findings.extend(running.judge(config.http.bind, &folder.lock));
    let ports = config.addresses().into_iter().map(|(key, address)| Port::look(key, address));
    findings.extend(ports.map(|port| port.judge(&running)));

    let server = folder.lock.pid();
    let limit = Limit::look(server);
    let (clients, callers) = (config.comet.max_connections, config.http.max_connections);
    findings.push(limit.judge(clients, callers));
    let needs = Needs {
        outbound_budget: config.comet.outbound_budget,
        commands: config.comet.commands,
        max_connections: clients,
        workers: config.comet.worker_count(),
    };
    findings.extend(Resources::look(server).judge(needs));
    let load = Load {
        clients: limit.plan(clients, callers).clients as u64,
        meant: clients > 0,
        send_buffer: config.comet.send_buffer as u64,
    };
    findings.extend(Kernel::look().judge(load));
    Ok(())
}

fn terms(config: &Config, key: PushKey, folder: &Folder) -> Terms {
    Terms { settings: table::to_table(config), addresses: config.addresses(), key, system: folder.system() }
}

/// Where the configuration comes from.
fn source(layers: &Layers, set: usize) -> String {
    let file =
        layers.file.as_deref().map_or_else(|| "no file".to_owned(), |file: &Path| file.display().to_string());
    match set {
        0 => format!("{file}; every key has its default"),
        1 => format!("{file}; 1 key is set (`anser config show` says where)"),
        n => format!("{file}; {n} keys are set (`anser config show` says where)"),
    }
}

fn wrong(problems: &Problems) -> Vec<Finding> {
    let told = problems.0.iter().map(|problem| {
        let place = problem.origin.as_ref().map(|origin| format!("{origin}: ")).unwrap_or_default();
        let (found, remedy) = (format!("{place}{}", problem.what), problem.remedy.clone());
        Finding::problem("configuration", Exit::Config, found, remedy)
    });
    told.collect()
}
