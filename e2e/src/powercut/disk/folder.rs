//! Names, and which of their changes a cut leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What names lead to.
pub(super) type Names = BTreeMap<String, usize>;

/// The names in each folder after a cut.
pub(super) type Resolved = BTreeMap<usize, Names>;

/// A folder.
#[derive(Clone, Debug, Default)]
pub(super) struct Folder {
    current: Names,
    /// Those that it began with.
    durable: Names,
}

impl Folder {
    /// A folder that is on disk.
    pub(super) fn durable_with(names: Names) -> Self {
        Self { current: names.clone(), durable: names }
    }

    /// What a reader sees.
    pub(super) fn current(&self) -> &Names {
        &self.current
    }

    /// What it began with.
    pub(super) fn durable(&self) -> &Names {
        &self.durable
    }

    /// Changes a name as a reader sees it.
    pub(super) fn apply(&mut self, change: &Change) {
        change.apply(&mut self.current);
    }
}

/// Changes that come about together: one, or the two of a rename.
#[derive(Clone, Debug)]
pub(super) struct Move {
    /// When.
    pub at: u64,
    /// What.
    pub changes: Vec<Change>,
}

/// A name leads elsewhere, or nowhere.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// The folder of the name.
    pub folder: usize,
    /// The name.
    pub name: String,
    /// Where it leads.
    pub node: Option<usize>,
    /// Whether the folder has been synced since.
    pub certain: bool,
}

impl Change {
    fn apply(&self, names: &mut Names) {
        match self.node {
            Some(node) => names.insert(self.name.clone(), node),
            None => names.remove(&self.name),
        };
    }

    fn key(&self) -> (usize, &str) {
        (self.folder, &self.name)
    }
}

impl Move {
    /// Whether it is on disk: a rename from one folder to another is when both are synced.
    pub(super) fn is_certain(&self) -> bool {
        self.changes.iter().all(|change| change.certain)
    }

    /// Whether a name leads to this node by it.
    pub(super) fn leads_to(&self, node: usize) -> bool {
        self.changes.iter().any(|change| change.node == Some(node))
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.changes {
            [from, to] => write!(f, "{} did not become {}", from.name, to.name),
            [Change { name, node: Some(_), .. }, ..] => write!(f, "{name} is not there"),
            [Change { name, .. }, ..] => write!(f, "{name} is still there"),
            [] => Ok(()),
        }
    }
}

/// The names after a cut. Of moves that are not certain, `lucky` says whether they are on disk. A name
/// changes in order: what came later is on disk only with what came before.
pub(super) fn resolve(
    mut folders: Resolved,
    moves: &[Move],
    mut lucky: impl FnMut(&Move) -> bool,
) -> Resolved {
    let mut fixed = BTreeSet::new();
    let mut certain = vec![false; moves.len()];
    for (moved, certain) in moves.iter().zip(&mut certain).rev() {
        *certain = moved.is_certain() || moved.changes.iter().any(|change| fixed.contains(&change.key()));
        if *certain {
            fixed.extend(moved.changes.iter().map(Change::key));
        }
    }
    let mut stuck = BTreeSet::new();
    for (moved, certain) in moves.iter().zip(certain) {
        let free = !moved.changes.iter().any(|change| stuck.contains(&change.key()));
        if certain || (free && lucky(moved)) {
            for change in &moved.changes {
                change.apply(folders.entry(change.folder).or_default());
            }
        } else {
            stuck.extend(moved.changes.iter().map(Change::key));
        }
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, node: Option<usize>, certain: bool) -> Change {
        Change { folder: 0, name: name.to_owned(), node, certain }
    }

    /// A file 1 is made as `tmp`, becomes `log` in place of file 9, and `old`, file 8, goes.
    fn moves(certain: [bool; 3]) -> Vec<Move> {
        let [made, renamed, gone] = certain;
        [
            vec![change("tmp", Some(1), made)],
            vec![change("tmp", None, renamed), change("log", Some(1), renamed)],
            vec![change("old", None, gone)],
        ]
        .into_iter()
        .enumerate()
        .map(|(at, changes)| Move { at: at as u64, changes })
        .collect()
    }

    #[track_caller]
    fn check(certain: [bool; 3], luck: [bool; 3], expected: &[(&str, usize)]) {
        let durable = Names::from([("log".to_owned(), 9), ("old".to_owned(), 8)]);
        let folders = resolve([(0, durable)].into(), &moves(certain), |moved| luck[moved.at as usize]);
        let names: Vec<_> = folders[&0].iter().map(|(name, node)| (&**name, *node)).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn a_rename_is_the_old_name_or_the_new_one() {
        check([true, false, false], [false, false, false], &[("log", 9), ("old", 8), ("tmp", 1)]);
        check([true, false, false], [false, true, false], &[("log", 1), ("old", 8)]);
    }

    #[test]
    fn changes_of_one_name_come_in_order() {
        check([false; 3], [false, true, true], &[("log", 9)]);
        check([false; 3], [true, true, false], &[("log", 1), ("old", 8)]);
        check([false; 3], [false; 3], &[("log", 9), ("old", 8)]);
    }

    #[test]
    fn what_is_certain_brings_what_came_before() {
        check([false, true, false], [false; 3], &[("log", 1), ("old", 8)]);
    }

    #[test]
    fn names_are_independent_of_each_other() {
        check([true, false, false], [false, false, true], &[("log", 9), ("tmp", 1)]);
    }
}
