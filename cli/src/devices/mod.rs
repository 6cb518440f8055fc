//! `onwire devices`: the network cards of the machine, and who has them; `bind` and `unbind`.

mod bind;
pub mod pci;
pub mod record;

use crate::arguments::{ListArguments, Selection};
use crate::failure::Failure;
use crate::output::{Align, Table, print, print_json};
pub use bind::{bind, unbind};
use pci::{Bus, Card};
use serde::Serialize;
use std::process::ExitCode;

/// A card and what uses it.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    card: Card,
    /// Maker and model, if this machine has a list of them.
    model: Option<String>,
    /// The programs of the engine that drives it.
    holder: Option<String>,
}

/// Runs the subcommand. No card at all is an empty list, not a failure.
pub fn devices(arguments: &ListArguments) -> Result<ExitCode, Failure> {
    let rows = rows(&Bus::here(), &arguments.selection);
    if arguments.json {
        print_json(&rows)?;
    } else {
        print(&render(&rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(bus: &Bus, selection: &Selection) -> Vec<Row> {
    let engines = selection.live_engines();
    let models = Models::load();
    let rows = bus.cards().into_iter().map(|card| {
        let device = format!("pci:{}", card.address);
        let engine = engines.iter().find(|engine| engine.info.device == device);
        let holder = engine.map(|engine| crate::engines::programs(&engine.info));
        Row { model: models.name(&card.id), holder, card }
    });
    rows.collect()
}

fn render(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        ("Address", Align::Left),
        ("Card", Align::Left),
        ("Driver", Align::Left),
        ("Interface", Align::Left),
        ("NUMA", Align::Right),
        ("IOMMU group", Align::Right),
        ("Use", Align::Left),
    ]);
    let number = |value: Option<u32>| value.map_or("-".to_owned(), |n| n.to_string());
    for Row { card, model, holder } in rows {
        let usage = match holder {
            Some(holder) => holder.clone(),
            None if card.is_ready() => format!("free: --device pci:{}", card.address),
            None => format!("the kernel's; onwire bind {} hands it over", card.address),
        };
        table.row(vec![
            card.address.clone(),
            model.as_ref().unwrap_or(&card.id).clone(),
            card.driver.clone().unwrap_or_else(|| "-".into()),
            if card.interfaces.is_empty() { "-".into() } else { card.interfaces.join(" ") },
            number(card.numa_node),
            number(card.iommu_group),
            usage,
        ]);
    }
    table.render()
}

/// Makers and models by number: pci.ids, as Debian's package of that name installs it.
struct Models(String);

impl Models {
    fn load() -> Self {
        let paths = ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids"];
        Models(paths.iter().find_map(|path| std::fs::read_to_string(path).ok()).unwrap_or_default())
    }

    fn name(&self, id: &str) -> Option<String> {
        let (vendor, device) = id.split_once(':')?;
        let mut lines = self.0.lines().skip_while(|line| !line.starts_with(vendor));
        let maker = lines.next()?.get(4..)?.trim();
        let models = lines.take_while(|line| line.starts_with('\t') || line.starts_with('#'));
        let model = models
            .filter_map(|line| line.strip_prefix('\t'))
            .find_map(|line| line.strip_prefix(device)?.strip_prefix("  "));
        Some(format!("{maker} {}", model.unwrap_or(device)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_have_names_where_the_list_has_them() {
        let list = "1af4  Red Hat\n\t1041  Virtio network device\n\
                    8086  Intel\n\t10d3  82574L Gigabit\n\t\t8086 0001  A board\n\t10d4  Other\n";
        let models = Models(list.into());
        assert_eq!(models.name("8086:10d3").as_deref(), Some("Intel 82574L Gigabit"));
        assert_eq!(models.name("8086:10d4").as_deref(), Some("Intel Other"));
        assert_eq!(models.name("8086:ffff").as_deref(), Some("Intel ffff"));
        assert_eq!(models.name("1af4:10d3").as_deref(), Some("Red Hat 10d3"));
        assert_eq!(models.name("dead:beef"), None);
    }

    #[test]
    fn a_card_says_how_to_use_it() {
        let sys = tempfile::tempdir().unwrap();
        pci::testing::add_card(sys.path(), "0000:00:02.0", "0x020000\n", Some("vfio-pci"));
        pci::testing::add_card(sys.path(), "0000:00:03.0", "0x020000\n", Some("e1000"));
        let cards = Bus::at(sys.path()).cards().into_iter();
        let rows: Vec<Row> = cards.map(|card| Row { card, model: None, holder: None }).collect();
        let text = render(&rows);
        assert!(text.contains("free: --device pci:0000:00:02.0"), "{text}");
        assert!(text.contains("onwire bind 0000:00:03.0"), "{text}");
    }
}
