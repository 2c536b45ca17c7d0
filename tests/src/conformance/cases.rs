//! The cases, a file per section.

mod arguments;
mod bridge;
mod check;
mod delegation;
mod environment;
mod gateway;
mod gc;
mod lifecycle;
mod port;
mod results;
mod robust;
mod rules;
mod skel;
mod vlan;

use super::Case;

/// Every case, in the order of reports.
pub fn all() -> Vec<Case> {
    let sections = [
        environment::cases(),
        skel::cases(),
        lifecycle::cases(),
        results::cases(),
        check::cases(),
        gc::cases(),
        delegation::cases(),
        arguments::cases(),
        bridge::cases(),
        port::cases(),
        vlan::cases(),
        gateway::cases(),
        rules::cases(),
        robust::cases(),
    ];
    sections.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_case_has_a_name_of_its_own_in_its_section() {
        let mut seen = BTreeSet::new();
        for case in all() {
            assert!(seen.insert(case.id), "{} twice", case.id);
            assert!(case.id.contains('.'), "{}", case.id);
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
            assert!(case.id.chars().all(fits), "{}", case.id);
            assert!(
                !case.meaning.is_empty() && !case.source.is_empty(),
                "{}",
                case.id
            );
            assert!(!case.meaning.contains('\n'), "{}", case.id);
        }
        assert!(seen.len() > 100, "{}", seen.len());
    }
}
