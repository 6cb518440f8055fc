//! Finding the engines that a question goes to.

use crate::arguments::Selection;
use crate::failure::Failure;
use control::message::EngineInfo;
use control::{Client, Layer, RunDir, Settings};
use std::path::PathBuf;

/// An engine that answered.
pub struct Engine {
    /// What it said of itself.
    pub info: EngineInfo,
    /// The connection, ready for further questions.
    pub client: Client,
}

impl Selection {
    /// The run directory: the flag's, the environment's, the file's or the default.
    pub fn run_dir(&self) -> RunDir {
        if let Some(dir) = &self.run_dir {
            return RunDir::at(dir);
        }
        if let Some(dir) = std::env::var_os("ONWIRE_RUN_DIR").map(PathBuf::from) {
            return RunDir::at(dir);
        }
        // A bad setting elsewhere must not hide what already runs.
        let settings = Settings::load(None, std::env::vars_os(), &Layer::new());
        RunDir::of(&settings.unwrap_or_default())
    }

    fn wants(&self, info: &EngineInfo) -> bool {
        self.engine.is_none_or(|id| id == info.id)
            && self.pid.is_none_or(|pid| info.programs.iter().any(|program| program.pid == pid))
    }

    /// The engines meant, at least one, ascending by id.
    pub fn engines(&self) -> Result<Vec<Engine>, Failure> {
        let engines = self.live_engines();
        if !engines.is_empty() {
            return Ok(engines);
        }
        let dir = self.run_dir();
        let place = dir.path().display();
        Err(match (self.engine, self.pid) {
            (Some(id), _) => {
                Failure::failed(format!("no engine {id} runs (onwire list shows all)"))
            }
            (_, Some(pid)) => Failure::failed(format!(
                "process {pid} has no engine: it opened no socket yet, or was not started with \
                 onwire run"
            )),
            _ => Failure::failed(format!(
                "no engine runs (none answers in {place}); start one: onwire run -- PROGRAM"
            )),
        })
    }

    /// The engines meant, maybe none, ascending by id.
    pub fn live_engines(&self) -> Vec<Engine> {
        let answers = Client::connect_all(&self.run_dir()).into_iter().filter_map(|mut client| {
            let info = client.info().ok()?;
            self.wants(&info).then_some(Engine { info, client })
        });
        let mut engines: Vec<Engine> = answers.collect();
        engines.sort_by_key(|engine| engine.info.id);
        engines
    }

    /// The one engine meant.
    pub fn engine(&self) -> Result<Engine, Failure> {
        let mut engines = self.engines()?;
        if engines.len() > 1 {
            let ids: Vec<String> =
                engines.iter().map(|engine| engine.info.id.to_string()).collect();
            return Err(Failure::usage(format!(
                "several engines run; say which: --engine {}",
                ids.join(" or ")
            )));
        }
        engines.pop().ok_or_else(|| Failure::failed("no engine runs"))
    }
}

/// One line about an engine, as a heading.
pub fn heading(info: &EngineInfo) -> String {
    format!(
        "engine {}: {} on {} ({}, {}), {}\n",
        info.id,
        programs(info),
        info.interface.as_deref().unwrap_or(&info.device),
        info.driver,
        info.mac,
        addresses(info),
    )
}

/// The engine's programs, or what is left without them.
pub fn programs(info: &EngineInfo) -> String {
    if info.programs.is_empty() {
        return "no program, finishing connections".to_owned();
    }
    let shown = 4;
    let mut names: Vec<String> = info
        .programs
        .iter()
        .take(shown)
        .map(|program| format!("{} ({})", program.name, program.pid))
        .collect();
    if info.programs.len() > shown {
        names.push(format!("{} more", info.programs.len() - shown));
    }
    names.join(", ")
}

/// The engine's addresses.
pub fn addresses(info: &EngineInfo) -> String {
    let texts: Vec<String> = info.addresses.iter().map(ToString::to_string).collect();
    texts.join(", ")
}
