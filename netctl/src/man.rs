//! The manual page: every command with its options, on one page.

use clap::CommandFactory;
use clap_mangen::Man;

use crate::{
    cli::{Args, Failure},
    ip, tc,
};

/// roff's own characters, taken literally.
fn literal(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.replace('\\', "\\\\").replace('-', "\\-");
        if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The page in roff.
pub fn page() -> Result<Vec<u8>, Failure> {
    let command = Args::command();
    let mut out = Vec::new();
    let man = Man::new(command.clone());
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    let mut list = Vec::new();
    man.render_subcommands_section(&mut list)?;
    // The commands are on this page, not on pages of their own.
    let list = String::from_utf8_lossy(&list).replace("netctl\\-", "netctl ").replace("(1)", "");
    out.extend_from_slice(list.as_bytes());
    for sub in command.get_subcommands() {
        let name = sub.get_name();
        let mut section = Vec::new();
        let man = Man::new(sub.clone().bin_name(format!("netctl {name}")));
        man.render_synopsis_section(&mut section)?;
        man.render_description_section(&mut section)?;
        // `ip` and `tc` read a grammar of their own.
        let grammar = match name {
            "ip" => Some(ip::USAGE),
            "tc" => Some(tc::USAGE),
            _ => {
                man.render_options_section(&mut section)?;
                None
            }
        };
        let mut section = String::from_utf8_lossy(&section).replace("\n.SH ", "\n.SS ");
        if section.starts_with(".SH ") {
            section.replace_range(..3, ".SS");
        }
        out.extend_from_slice(format!(".SH \"NETCTL {}\"\n{section}", name.to_uppercase()).as_bytes());
        if let Some(usage) = grammar {
            out.extend_from_slice(format!(".SS GRAMMAR\n.nf\n{}\n.fi\n", literal(usage)).as_bytes());
        }
    }
    man.render_version_section(&mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `record` was listed without its options: the page held the names of the commands and nothing of what they take.
    #[test]
    fn every_option_of_every_command_is_on_the_page() {
        let page = String::from_utf8(page().expect("rendered")).expect("text");
        for sub in Args::command().get_subcommands() {
            let heading = format!(".SH \"NETCTL {}\"", sub.get_name().to_uppercase());
            let section = page.split(&heading).nth(1).unwrap_or_else(|| panic!("no section {heading}"));
            let section = section.split("\n.SH ").next().unwrap_or_default();
            for option in sub.get_arguments().filter_map(|a| a.get_long()) {
                let shown = format!("\\-\\-{}", option.replace('-', "\\-"));
                assert!(section.contains(&shown), "{heading} does not show --{option}:\n{section}");
            }
        }
        assert!(page.contains("ip maddr") || page.contains("ip link"), "the grammars are there");
    }
}
