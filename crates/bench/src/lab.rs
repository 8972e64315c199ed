//! What every command works with: options, servers, fleets, floors, and the report.

use std::path::PathBuf;
use std::time::Duration;
use std::{env, iter};

use anyhow::{Context, anyhow, ensure};

use crate::calibrate::Calibration;
use crate::cli::{Options, Roles};
use crate::control::{Appetite, Transport};
use crate::fleet::{Fleet, PER_PROCESS, Plan};
use crate::floor::Floor;
use crate::placement::{self, Placement};
use crate::progress::Progress;
use crate::report::Report;
use crate::server::{Layout, Server, Start};
use crate::usage::Parties;

/// goim's clients send a heartbeat every four minutes.
const HEARTBEAT: Duration = Duration::from_secs(240);

/// Files that a process has open beside its connections.
const SPARE_FILES: u64 = 600;

/// The surroundings of a run.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) options: Options,
    pub(crate) report: Report,
    pub(crate) progress: Progress,
    placement: Placement,
}

/// Which connections a command wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Members {
    /// Number of the first; no two fleets of one server overlap.
    pub(crate) first: u64,
    pub(crate) count: u64,
    /// Over how many rooms they are spread; 0: none.
    pub(crate) rooms: u64,
    /// One user for all, or one each.
    pub(crate) user: Option<u64>,
    pub(crate) appetite: Appetite,
}

impl Members {
    /// Connections in one room, numbered from 0.
    pub(crate) fn of_one_room(count: u64) -> Self {
        Self { first: 0, count, rooms: 1, user: None, appetite: Appetite::All }
    }
}

impl Lab {
    /// Checks what can be checked before anything starts, and calibrates.
    pub(crate) fn new(options: Options) -> anyhow::Result<Self> {
        let largest = options.connections.iter().max().copied().unwrap_or(0);
        // A server that runs already has limits of its own.
        placement::open_files(if options.target.is_none() { largest + SPARE_FILES } else { 0 })?;
        let progress = Progress::new();
        progress.phase("calibrating");
        let folder = options.folder.clone().unwrap_or_else(env::temp_dir);
        let calibration = Calibration::measure(&folder)
            .with_context(|| format!("cannot calibrate in {}", folder.display()))?;
        // Afterwards: the line tells of the whole machine.
        let placement = Placement::new(options.pin)?;
        let arguments = env::args().skip(1);
        let command = iter::once("anser-bench".to_owned()).chain(arguments).collect::<Vec<_>>().join(" ");
        let report = Report { command, calibration, rows: Vec::new(), section: String::new() };
        Ok(Self { options, report, progress, placement })
    }

    /// The sizes to measure.
    pub(crate) fn sizes(&self, default: &[u64]) -> Vec<u64> {
        match self.options.connections.as_slice() {
            [] => default.to_vec(),
            sizes => sizes.to_vec(),
        }
    }

    /// The length of one measurement.
    pub(crate) fn seconds(&self, default: u64) -> Duration {
        Duration::from_secs(self.options.seconds.unwrap_or(default))
    }

    /// How often A and B are measured.
    pub(crate) fn pairs(&self, default: u64) -> u64 {
        self.options.pairs.unwrap_or(default)
    }

    /// Messages a second.
    pub(crate) fn rate(&self, default: f64) -> f64 {
        self.options.rate.unwrap_or(default)
    }

    /// Bytes of a body.
    pub(crate) fn body(&self) -> usize {
        self.body_or(44)
    }

    /// Bytes of a body, where a command has a default of its own.
    pub(crate) fn body_or(&self, default: u64) -> usize {
        self.options.body.unwrap_or(default) as usize
    }

    /// What the sections of a report say of the roles.
    pub(crate) fn roles(&self) -> &'static str {
        match self.options.roles {
            Roles::Together => "",
            Roles::Apart => ", roles apart",
        }
    }

    /// Where temporary files go.
    pub(crate) fn folder(&self) -> PathBuf {
        self.options.folder.clone().unwrap_or_else(env::temp_dir)
    }

    /// A server: a fresh one with these settings and those of the command line, or the one of --target.
    pub(crate) fn server(&self, settings: &[&str]) -> anyhow::Result<Server> {
        if let Some(target) = &self.options.target {
            return Server::attach(target);
        }
        self.start(
            settings,
            match self.options.roles {
                Roles::Together => Layout::Together,
                Roles::Apart => Layout::Apart { comets: 1 },
            },
        )
    }

    /// One logic, one job, so many comets.
    pub(crate) fn cluster(&self, comets: usize, settings: &[&str]) -> anyhow::Result<Server> {
        ensure!(
            self.options.target.is_none(),
            "this command starts the processes of its server by itself: leave --target away"
        );
        self.start(settings, Layout::Apart { comets })
    }

    fn start(&self, settings: &[&str], layout: Layout) -> anyhow::Result<Server> {
        self.progress.phase("starting the server");
        let program = match &self.options.server {
            Some(program) => program.clone(),
            None => env::current_exe()?.with_file_name("anser"),
        };
        let settings: Vec<String> =
            settings.iter().map(|setting| (*setting).to_owned()).chain(self.options.set.clone()).collect();
        Server::start(&Start {
            program: &program,
            parent: &self.folder(),
            settings: &settings,
            layout,
            placement: &self.placement,
        })
    }

    /// A floor.
    pub(crate) fn floor(&self, transport: Transport) -> anyhow::Result<Floor> {
        Floor::start(transport, &self.placement)
    }

    /// Connections to the server.
    pub(crate) fn fleet(
        &self,
        server: &Server,
        transport: Transport,
        members: Members,
    ) -> anyhow::Result<Fleet> {
        let plan = self.plan(server.address(transport)?, transport, members);
        self.connect(server, &plan, "the server")
    }

    /// Connections to one of several comets; one process has `per_process` of them at most.
    pub(crate) fn fleet_of_comet(
        &self,
        server: &Server,
        comet: usize,
        transport: Transport,
        members: Members,
        per_process: u64,
    ) -> anyhow::Result<Fleet> {
        let plan = self.plan(server.address_of(comet, transport)?, transport, members);
        self.connect(server, &Plan { per_process, ..plan }, &format!("comet {comet}"))
    }

    fn connect(&self, server: &Server, plan: &Plan, name: &str) -> anyhow::Result<Fleet> {
        Fleet::connect(plan, name, &self.placement, &self.progress)
            .map_err(|error| anyhow!("{error:#}\nThe server said:\n{}", server.said()))
    }

    /// Connections to the floor.
    pub(crate) fn fleet_of_floor(
        &self,
        floor: &Floor,
        transport: Transport,
        members: Members,
    ) -> anyhow::Result<Fleet> {
        let plan = self.plan(floor.address, transport, members);
        Fleet::connect(&plan, "the floor", &self.placement, &self.progress)
    }

    /// A process for connections that come and go.
    pub(crate) fn visitors(&self) -> anyhow::Result<Fleet> {
        Fleet::start(1, &self.placement)
    }

    fn plan(&self, address: std::net::SocketAddr, transport: Transport, members: Members) -> Plan {
        let Members { first, count, rooms, user, appetite } = members;
        let window = self.options.window as usize;
        let (heartbeat, per_process) = (HEARTBEAT, PER_PROCESS);
        Plan { address, transport, first, count, rooms, user, appetite, window, heartbeat, per_process }
    }
}

/// The processes whose CPU is taken.
pub(crate) fn parties<'a>(server: &[u32], fleets: impl IntoIterator<Item = &'a Fleet>) -> Parties {
    Parties { server: server.to_vec(), fleets: fleets.into_iter().flat_map(Fleet::pids).collect() }
}
