//! `onwire route` and `onwire neigh`.

use crate::arguments::ListArguments;
use crate::engines::heading;
use crate::failure::Failure;
use crate::output::{Align, Table, print, print_json};
use serde_json::json;
use std::process::ExitCode;

/// Runs `onwire route`.
pub fn route(arguments: &ListArguments) -> Result<ExitCode, Failure> {
    let mut engines = arguments.selection.engines()?;
    let several = engines.len() > 1;
    let mut documents = Vec::new();
    let mut text = String::new();
    for engine in &mut engines {
        let routes = engine.client.routes()?;
        let mut table = Table::new(&[
            ("Destination", Align::Left),
            ("Gateway", Align::Left),
            ("Source", Align::Left),
            ("MTU", Align::Right),
        ]);
        for route in &routes {
            let destination = match route.destination.prefix_len() {
                0 => "default".to_owned(),
                _ => route.destination.to_string(),
            };
            table.row(vec![
                destination,
                or_dash(route.gateway),
                or_dash(route.source),
                route.mtu.to_string(),
            ]);
        }
        if several {
            text.push_str(&heading(&engine.info));
        }
        text.push_str(&table.render());
        documents.push(json!({ "engine": engine.info.id, "routes": routes }));
    }
    show(arguments.json, &documents, &text)
}

/// Runs `onwire neigh`.
pub fn neigh(arguments: &ListArguments) -> Result<ExitCode, Failure> {
    let mut engines = arguments.selection.engines()?;
    let several = engines.len() > 1;
    let mut documents = Vec::new();
    let mut text = String::new();
    for engine in &mut engines {
        let neighbors = engine.client.neighbors()?;
        let mut table = Table::new(&[
            ("Address", Align::Left),
            ("MAC", Align::Left),
            ("State", Align::Left),
            ("Answered", Align::Right),
        ]);
        for neighbor in &neighbors {
            table.row(vec![
                neighbor.address.to_string(),
                or_dash(neighbor.mac),
                neighbor.state.clone(),
                neighbor.age_ms.map_or("-".to_owned(), |age| {
                    format!("{} ago", crate::list::duration(age / 1000))
                }),
            ]);
        }
        if several {
            text.push_str(&heading(&engine.info));
        }
        text.push_str(&table.render());
        documents.push(json!({ "engine": engine.info.id, "neighbors": neighbors }));
    }
    show(arguments.json, &documents, &text)
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

fn show(json: bool, documents: &[serde_json::Value], text: &str) -> Result<ExitCode, Failure> {
    if json {
        print_json(&documents)?
    } else {
        print(text)?
    }
    Ok(ExitCode::SUCCESS)
}
