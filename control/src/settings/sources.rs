//! Where settings come from: defaults, then the file, then the environment, then the command
//! line; the later wins. Rules alone add up: those of the later source come first, for the first
//! match decides.

use super::{Key, SettingError, Settings};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The file that is read if it exists and no other is named.
pub const CONFIG_FILE: &str = "/etc/onwire.toml";
/// The environment variable that names another file.
pub const CONFIG_VARIABLE: &str = "ONWIRE_CONFIG";
/// The environment variable in which `onwire run` hands all settings to the library, as JSON.
pub const SETTINGS_VARIABLE: &str = "ONWIRE_SETTINGS";

/// Variables that begin with ONWIRE_ and are no settings.
const OTHER_VARIABLES: &[&str] = &[CONFIG_VARIABLE, SETTINGS_VARIABLE, "ONWIRE_LIBRARY"];
/// Variables for tests and internal hand-over begin with these.
const OTHER_PREFIXES: &[&str] = &["ONWIRE_TEST_", "ONWIRE_INTERNAL_"];
/// A settings file is text for people: more than this is a mistake.
const LARGEST_FILE: u64 = 1 << 20;

/// One source of settings: what it says, in order, and its name for messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layer {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: String,
    value: String,
    origin: String,
}

impl Layer {
    /// A layer that says nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one setting; `origin` is where it was written, such as `--mtu`. Values of a list
    /// setting that are set more than once in a layer add up.
    pub fn set(&mut self, name: &str, value: &str, origin: &str) {
        self.entries.push(Entry {
            name: name.to_owned(),
            value: value.to_owned(),
            origin: origin.to_owned(),
        });
    }

    /// Reads a TOML text. Its name for messages is `origin`.
    ///
    /// # Errors
    /// It is no TOML, or has a value that is neither text nor number nor switch nor list.
    pub fn from_toml(text: &str, origin: &str) -> Result<Self, SettingError> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |at| text[..at.start].lines().count().max(1));
            let problem = format!("is no TOML at line {line}: {}", error.message());
            SettingError::new("config", origin, &problem, "correct the file")
        })?;
        let mut layer = Layer::new();
        layer.add_table("", &table, origin)?;
        Ok(layer)
    }

    fn add_table(
        &mut self,
        section: &str,
        table: &toml::Table,
        origin: &str,
    ) -> Result<(), SettingError> {
        for (key, value) in table {
            let name = format!("{section}{key}");
            match value {
                toml::Value::Table(table) if section.is_empty() => {
                    self.add_table(&format!("{key}."), table, origin)?;
                }
                toml::Value::Array(values) => {
                    let separator = find_key(&name).map_or(" ", |key| key.separator);
                    let texts: Result<Vec<_>, _> =
                        values.iter().map(|value| scalar(&name, value, origin)).collect();
                    self.set(&name, &texts?.join(separator), origin);
                }
                value => self.set(&name, &scalar(&name, value, origin)?, origin),
            }
        }
        Ok(())
    }

    /// Takes the ONWIRE_ variables out of an environment.
    ///
    /// # Errors
    /// A variable is no UTF-8.
    pub fn from_variables(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingError> {
        let mut layer = Layer::new();
        for (variable, value) in variables {
            let Some(variable) = variable.to_str().filter(|name| name.starts_with("ONWIRE_"))
            else {
                continue;
            };
            let ours = OTHER_VARIABLES.contains(&variable)
                || OTHER_PREFIXES.iter().any(|prefix| variable.starts_with(prefix));
            if ours {
                continue;
            }
            let key = Settings::KEYS.iter().find(|key| key.variable() == variable);
            let name = key.map_or(variable, |key| key.name);
            let value = value.to_str().ok_or_else(|| {
                SettingError::new(
                    name,
                    &value.to_string_lossy(),
                    "is no UTF-8",
                    "write it in UTF-8",
                )
                .from_origin(variable)
            })?;
            layer.set(name, value, variable);
        }
        Ok(layer)
    }
}

fn scalar(name: &str, value: &toml::Value, origin: &str) -> Result<String, SettingError> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Boolean(switch) => Ok(if *switch { "on" } else { "off" }.to_owned()),
        other => {
            let problem = format!("is a {}", other.type_str());
            let remedy = "give a text, a whole number, true, false, or a list of them";
            Err(SettingError::new(name, &other.to_string(), &problem, remedy).from_origin(origin))
        }
    }
}

fn find_key(name: &str) -> Option<&'static Key> {
    Settings::KEYS.iter().find(|key| key.name == name)
}

fn unknown_key(name: &str, origin: &str) -> SettingError {
    let by_distance = |key: &&Key| strsim(key.name, name);
    let nearest = Settings::KEYS
        .iter()
        .min_by_key(by_distance)
        .filter(|key| by_distance(key) <= 3.max(name.len() / 3));
    let remedy = match nearest {
        Some(key) if name.starts_with("ONWIRE_") => format!("did you mean {}?", key.variable()),
        Some(key) => format!("did you mean {}?", key.name),
        None => "onwire settings lists them all".to_owned(),
    };
    SettingError::new(name, "", "is no setting", &remedy).from_origin(origin)
}

/// Levenshtein's distance between a key and what was written, which may be a variable's name.
fn strsim(key: &str, written: &str) -> usize {
    let written = written.strip_prefix("ONWIRE_").unwrap_or(written).to_ascii_lowercase();
    let key = key.replace('.', "_");
    let written: Vec<char> = written.replace('.', "_").chars().take(64).collect();
    let mut row: Vec<usize> = (0..=written.len()).collect();
    for (i, a) in key.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in written.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[written.len()]
}

impl Settings {
    /// Applies one source over what there is.
    ///
    /// # Errors
    /// The first setting of the layer that is unknown or has a bad value.
    pub fn apply(&mut self, layer: &Layer) -> Result<(), SettingError> {
        let mut texts: Vec<(&'static Key, String, &str)> = Vec::new();
        for Entry { name, value, origin } in &layer.entries {
            let key = find_key(name).ok_or_else(|| unknown_key(name, origin))?;
            match texts.iter_mut().find(|(other, ..)| other.name == key.name) {
                Some((_, text, _)) if key.separator != " " => {
                    *text = format!("{text}{}{value}", key.separator);
                }
                Some((_, text, _)) => value.clone_into(text),
                None => texts.push((key, value.clone(), origin)),
            }
        }
        for (key, text, origin) in texts {
            let earlier_rules = std::mem::take(&mut self.rules.0);
            let result = (key.set)(self, text.trim());
            self.rules.0.extend(earlier_rules);
            result.map_err(|problem| {
                let remedy = if problem.contains(';') { "" } else { key.expected };
                SettingError::new(key.name, &text, &problem, remedy).from_origin(origin)
            })?;
        }
        Ok(())
    }

    /// Merges defaults, file, environment and command line. `config` is the file named on the
    /// command line, if any.
    ///
    /// # Errors
    /// The first setting that is unknown, malformed or contradicts another; a named file that
    /// cannot be read.
    pub fn load(
        config: Option<&Path>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        flags: &Layer,
    ) -> Result<Self, SettingError> {
        let settings = Self::gather(config, variables, flags)?;
        settings.validate()?;
        Ok(settings)
    }

    /// As [`Settings::load`], of what may not be complete yet.
    ///
    /// # Errors
    /// As [`Settings::load`], but for what only makes sense as a whole.
    pub fn gather(
        config: Option<&Path>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        flags: &Layer,
    ) -> Result<Self, SettingError> {
        let variables: Vec<_> = variables.into_iter().collect();
        let named = variables.iter().find(|(name, _)| name == CONFIG_VARIABLE);
        let file = match (config, named) {
            (Some(path), _) => read_file(path, "--config")?,
            (None, Some((_, path))) => read_file(&PathBuf::from(path), CONFIG_VARIABLE)?,
            (None, None) if Path::new(CONFIG_FILE).exists() => {
                read_file(Path::new(CONFIG_FILE), "the default")?
            }
            (None, None) => Layer::new(),
        };
        let mut settings = Settings::default();
        settings.apply(&file)?;
        settings.apply(&Layer::from_variables(variables)?)?;
        settings.apply(flags)?;
        Ok(settings)
    }

    /// The library's settings: those that `onwire run` handed over, or else file and environment.
    ///
    /// # Errors
    /// As [`Settings::load`]; or `ONWIRE_SETTINGS` is not what `onwire run` writes.
    pub fn from_env() -> Result<Self, SettingError> {
        match std::env::var_os(SETTINGS_VARIABLE) {
            Some(json) => Self::from_json(&json.to_string_lossy()),
            None => Self::load(None, std::env::vars_os(), &Layer::new()),
        }
    }

    /// What `ONWIRE_SETTINGS` carries: the settings that differ from the defaults.
    #[must_use]
    pub fn to_json(&self) -> String {
        let map: BTreeMap<&str, String> = self.changed().collect();
        serde_json::Value::from_iter(map).to_string()
    }

    /// Reads what [`Settings::to_json`] wrote.
    ///
    /// # Errors
    /// The text is something else.
    pub fn from_json(text: &str) -> Result<Self, SettingError> {
        let remedy = "unset it, or start the program with onwire run";
        let map: BTreeMap<String, String> = serde_json::from_str(text).map_err(|error| {
            SettingError::new(SETTINGS_VARIABLE, "", &format!("is damaged: {error}"), remedy)
        })?;
        Self::from_map(map)
    }

    fn from_map(map: BTreeMap<String, String>) -> Result<Self, SettingError> {
        let mut layer = Layer::new();
        for (name, value) in map {
            layer.set(&name, &value, SETTINGS_VARIABLE);
        }
        let mut settings = Settings::default();
        settings.apply(&layer)?;
        settings.validate()?;
        Ok(settings)
    }

    fn changed(&self) -> impl Iterator<Item = (&'static str, String)> {
        let defaults = Settings::default();
        Self::KEYS.iter().filter_map(move |key| {
            let value = key.value(self);
            (value != key.value(&defaults)).then_some((key.name, value))
        })
    }
}

impl Serialize for Settings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.changed() {
            map.serialize_entry(name, &value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Settings::from_map(BTreeMap::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

fn read_file(path: &Path, origin: &str) -> Result<Layer, SettingError> {
    let name = path.display().to_string();
    let failed = |problem: String, remedy: &str| {
        SettingError::new("config", &name, &problem, remedy).from_origin(origin)
    };
    let cannot = |error: std::io::Error| {
        failed(format!("cannot be read: {error}"), "name a file that exists and may be read")
    };
    let length = std::fs::metadata(path).map_err(cannot)?.len();
    if length > LARGEST_FILE {
        return Err(failed(format!("has {length} octets"), "name a file of at most 1 MiB"));
    }
    Layer::from_toml(&std::fs::read_to_string(path).map_err(cannot)?, &name)
}
