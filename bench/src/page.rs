//! How a result leaves the harness: a table or JSON on standard output, and one self-contained
//! HTML page with SVG plots if it is wanted.

use crate::bench::Common;
use crate::machine::Machine;
use anyhow::{Context, Result};
use serde_json::Value;
use std::fmt::Write;

/// A result, ready to be shown.
#[derive(Debug)]
pub struct Page {
    /// What was measured.
    pub title: String,
    /// Tables and notes, as they are printed.
    pub text: String,
    /// SVG.
    pub plots: Vec<String>,
    /// What onwire's engines ran on, if that is not in the text.
    pub on: Option<String>,
    /// Everything.
    pub json: Value,
}

impl Page {
    /// Prints, and writes the page.
    pub fn publish(&self, common: &Common, machine: &Machine) -> Result<()> {
        let on = self.on.as_ref().map(|on| format!("\nonwire: {on}"));
        let machine = format!("{}{}", machine.lines(), on.unwrap_or_default());
        if common.json {
            println!("{}", serde_json::to_string_pretty(&self.json)?);
        } else {
            println!("{machine}\n\n{}", self.text.trim_end());
        }
        if let Some(path) = &common.html {
            std::fs::write(path, self.html(&machine))
                .with_context(|| format!("--html: cannot write {}", path.display()))?;
            eprintln!("the report is in {}", path.display());
        }
        Ok(())
    }

    fn html(&self, machine: &str) -> String {
        let title = escape(&self.title);
        let command = escape(&std::env::args().skip(1).collect::<Vec<_>>().join(" "));
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <title>{title}</title>\n<style>\n\
             body {{ font: 15px/1.5 sans-serif; max-width: 920px; margin: 2em auto; }}\n\
             pre {{ background: #f4f4f4; padding: 1em; overflow-x: auto; line-height: 1.35; }}\n\
             figure {{ margin: 2em 0; }}\n</style></head><body>\n\
             <h1>{title}</h1>\n<p><code>onwire bench {command}</code></p>\n\
             <h2>Measured on</h2>\n<pre>{}</pre>\n<h2>Results</h2>\n<pre>{}</pre>\n",
            escape(machine),
            escape(self.text.trim_end()),
        );
        for plot in &self.plots {
            let _ = writeln!(html, "<figure>{plot}</figure>");
        }
        let json = self.json.to_string().replace("</", "<\\/");
        let _ = writeln!(html, "<script type=\"application/json\" id=\"data\">{json}</script>");
        html.push_str("</body></html>\n");
        html
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_everything_and_escapes_it() {
        let page = Page {
            title: "a < b".to_owned(),
            text: "1 & 2".to_owned(),
            on: None,
            plots: vec!["<svg>plot</svg>".to_owned()],
            json: serde_json::json!({ "x": "</script>" }),
        };
        let html = page.html("a machine");
        for wanted in ["<h1>a &lt; b</h1>", "1 &amp; 2", "<svg>plot</svg>", r#"{"x":"<\/script>"}"#]
        {
            assert!(html.contains(wanted), "{wanted} is missing");
        }
        assert!(!html.contains("src=") && !html.contains("href="), "it refers to something else");
    }
}
