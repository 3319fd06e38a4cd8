//! The topological sort of RPM: packages that many need first, loops entered where that hurts prerequisites least.

use super::relations::PREFERRED;

/// A relation to another package.
#[derive(Debug, Clone, Copy)]
struct Relation {
    to: usize,
    /// Whether a scriptlet needs it.
    prerequisite: bool,
}

#[derive(Debug, Clone, Default)]
struct Node {
    color: u32,
    /// How many packages, not yet placed, must come before.
    count: usize,
    /// How many need this one.
    wanted: usize,
    /// Who needs this one; the newest last.
    successors: Vec<Relation>,
    /// Whom this one needs; the newest last.
    needs: Vec<Relation>,
    /// Next in its queue.
    next: Option<usize>,
    component: Component,
    /// Distance to a prerequisite within its loop.
    distance: u32,
}

/// Where a package stands with the loops.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Component {
    #[default]
    Alone,
    Loop(usize),
    Placed,
}

/// Packages and the relations between them.
pub(super) struct Graph {
    nodes: Vec<Node>,
}

/// Packages that need each other.
struct Loop {
    /// Relations into it that are still open.
    count: usize,
    members: Vec<usize>,
}

impl Graph {
    /// One package for each of `colors`, the ELF classes of its files.
    pub(super) fn new(colors: Vec<u32>) -> Self {
        let node = |color| Node {
            color,
            ..Node::default()
        };
        Self {
            nodes: colors.into_iter().map(node).collect(),
        }
    }

    /// Notes that `package` comes after `before`. What was noted of the pair just before is only widened: RPM looks no
    /// further back.
    pub(super) fn relate(&mut self, package: usize, before: usize, prerequisite: bool, reversed: bool) {
        let newest = if reversed {
            self.nodes[package].needs.last().map(|relation| relation.to) == Some(before)
        } else {
            self.nodes[before].successors.last().map(|relation| relation.to) == Some(package)
        };
        if newest {
            let widen = |relations: &mut Vec<Relation>, to| {
                let found = relations.iter_mut().rev().find(|relation| relation.to == to);
                if let Some(relation) = found {
                    relation.prerequisite |= prerequisite;
                }
            };
            widen(&mut self.nodes[before].successors, package);
            widen(&mut self.nodes[package].needs, before);
            return;
        }
        self.nodes[package].count += 1;
        self.nodes[before].wanted += 1;
        let relation = |to| Relation { to, prerequisite };
        self.nodes[before].successors.push(relation(package));
        self.nodes[package].needs.push(relation(before));
    }

    /// Loops, by Tarjan's algorithm over those who need a package.
    fn loops(&mut self) -> Vec<Loop> {
        const UNSEEN: usize = usize::MAX;
        let count = self.nodes.len();
        let (mut index, mut low) = (vec![UNSEEN; count], vec![0; count]);
        let mut on_stack = vec![false; count];
        let (mut stack, mut loops) = (Vec::new(), Vec::new());
        let mut visited = 0;
        for start in 0..count {
            if index[start] != UNSEEN {
                continue;
            }
            // A package, and how many of its successors have been followed.
            let mut path = vec![(start, 0)];
            while let Some(&mut (node, ref mut followed)) = path.last_mut() {
                if *followed == 0 && index[node] == UNSEEN {
                    (index[node], low[node]) = (visited, visited);
                    visited += 1;
                    stack.push(node);
                    on_stack[node] = true;
                }
                let successors = &self.nodes[node].successors;
                if *followed < successors.len() {
                    let next = successors[successors.len() - 1 - *followed].to;
                    *followed += 1;
                    if index[next] == UNSEEN {
                        path.push((next, 0));
                    } else if on_stack[next] {
                        low[node] = low[node].min(index[next]);
                    }
                    continue;
                }
                path.pop();
                if let Some(&(above, _)) = path.last() {
                    low[above] = low[above].min(low[node]);
                }
                if low[node] == index[node] {
                    let from = stack.iter().rposition(|&member| member == node).unwrap_or(0);
                    let members = stack.split_off(from);
                    for &member in &members {
                        on_stack[member] = false;
                    }
                    if members.len() > 1 {
                        loops.push(self.close(members, loops.len()));
                    }
                }
            }
        }
        loops
    }

    fn close(&mut self, members: Vec<usize>, number: usize) -> Loop {
        for &member in &members {
            self.nodes[member].component = Component::Loop(number);
        }
        let counts = members.iter().map(|&member| {
            let node = &self.nodes[member];
            let inside = node.needs.iter().filter(|relation| {
                relation.to != member && self.nodes[relation.to].component == Component::Loop(number)
            });
            node.count - inside.count()
        });
        Loop {
            count: counts.sum(),
            members,
        }
    }

    /// Puts `package` into the queue that starts at `head`: before the first that not more need.
    fn enqueue(&mut self, package: usize, head: &mut Option<usize>, used: &mut bool) {
        if !*used {
            *used = true;
            *head = Some(package);
            return;
        }
        let (color, wanted) = (self.nodes[package].color, self.nodes[package].wanted);
        let last = color != 0 && color != PREFERRED;
        let (mut before, mut at) = (None, *head);
        while let Some(other) = at {
            let skipped = last && color != self.nodes[other].color;
            if !skipped && self.nodes[other].wanted <= wanted {
                break;
            }
            (before, at) = (at, self.nodes[other].next);
        }
        // At the end of a queue RPM leaves the link as it is, which is none.
        if before.is_none() || at.is_some() {
            self.nodes[package].next = at;
        }
        match before {
            None => *head = Some(package),
            Some(before) => self.nodes[before].next = Some(package),
        }
    }
}

struct Sorter {
    graph: Graph,
    loops: Vec<Loop>,
    order: Vec<usize>,
    /// Whether RPM's outer queue ever had an element.
    outer_used: bool,
}

/// Sorts the packages of `graph`.
pub(super) fn sort(mut graph: Graph) -> Vec<usize> {
    let loops = graph.loops();
    let mut sorter = Sorter {
        order: Vec::with_capacity(graph.nodes.len()),
        graph,
        loops,
        outer_used: false,
    };
    let mut head = None;
    let mut used = false;
    for package in 0..sorter.graph.nodes.len() {
        if sorter.graph.nodes[package].count == 0 {
            sorter.graph.enqueue(package, &mut head, &mut used);
        }
    }
    for number in 0..sorter.loops.len() {
        if sorter.loops[number].count == 0 {
            let member = sorter.loops[number].members[0];
            sorter.graph.enqueue(member, &mut head, &mut used);
        }
    }
    sorter.outer_used = used;
    while let Some(package) = head {
        match sorter.graph.nodes[package].component {
            Component::Loop(number) => sorter.place_loop(package, number),
            _ => sorter.place(package, None),
        }
        head = sorter.graph.nodes[package].next;
    }
    sorter.order
}

/// The queue inside a loop, beside the queue that waits for the loop's end.
struct Inner<'a> {
    used: &'a mut bool,
    outer: &'a mut Option<usize>,
}

impl Sorter {
    /// Places `package` and queues whom it sets free.
    fn place(&mut self, package: usize, mut inner: Option<Inner<'_>>) {
        self.order.push(package);
        let own = self.graph.nodes[package].component;
        let successors: Vec<_> = self.graph.nodes[package]
            .successors
            .iter()
            .rev()
            .copied()
            .collect();
        for Relation { to, .. } in successors {
            let component = self.graph.nodes[to].component;
            if component == Component::Placed || to == package {
                continue;
            }
            self.graph.nodes[to].count = self.graph.nodes[to].count.saturating_sub(1);
            if self.graph.nodes[to].count == 0 {
                let outside = matches!(own, Component::Loop(_)) && own != component;
                self.queue(package, to, outside, &mut inner);
            }
            if let Component::Loop(number) = component
                && component != own
            {
                self.loops[number].count = self.loops[number].count.saturating_sub(1);
                if self.loops[number].count == 0 {
                    let outside = inner.is_some();
                    self.queue(package, to, outside, &mut inner);
                }
            }
        }
        self.graph.nodes[package].component = Component::Placed;
    }

    fn queue(&mut self, after: usize, package: usize, outside: bool, inner: &mut Option<Inner<'_>>) {
        match inner {
            Some(inner) if outside => self.graph.enqueue(package, inner.outer, &mut self.outer_used),
            Some(inner) => {
                let mut rest = self.graph.nodes[after].next;
                self.graph.enqueue(package, &mut rest, inner.used);
                self.graph.nodes[after].next = rest;
            }
            None => {
                let mut rest = self.graph.nodes[after].next;
                self.graph.enqueue(package, &mut rest, &mut self.outer_used);
                self.graph.nodes[after].next = rest;
            }
        }
    }

    /// Places all of a loop, of which `first` stood in the queue.
    fn place_loop(&mut self, first: usize, number: usize) {
        let mut outer = self.graph.nodes[first].next.take();
        self.measure(number);
        let members = self.loops[number].members.clone();
        loop {
            let mut best: Option<usize> = None;
            for &member in &members {
                let node = &self.graph.nodes[member];
                let best_so_far = best.map_or(0, |best| self.graph.nodes[best].distance);
                if node.component != Component::Placed && node.distance >= best_so_far {
                    best = Some(member);
                }
            }
            let Some(best) = best else {
                break;
            };
            let (mut head, mut used) = (None, false);
            self.graph.enqueue(best, &mut head, &mut used);
            while let Some(package) = head {
                let inner = Inner {
                    used: &mut used,
                    outer: &mut outer,
                };
                self.place(package, Some(inner));
                head = self.graph.nodes[package].next;
            }
        }
        self.graph.nodes[first].next = outer;
    }

    /// How far each member of a loop is from one that a scriptlet of another member needs: what is farthest can best do
    /// without its needs.
    fn measure(&mut self, number: usize) {
        let members = self.loops[number].members.clone();
        let inside = Component::Loop(number);
        let mut queue = std::collections::VecDeque::new();
        for &member in &members {
            let needs = &self.graph.nodes[member].needs;
            let prerequisite = needs
                .iter()
                .any(|relation| relation.prerequisite && self.graph.nodes[relation.to].component == inside);
            self.graph.nodes[member].distance = if prerequisite { 0 } else { u32::MAX };
            if prerequisite {
                queue.push_back(member);
            }
        }
        while let Some(member) = queue.pop_front() {
            let next = self.graph.nodes[member].distance + 1;
            let needs: Vec<_> = self.graph.nodes[member].needs.iter().rev().copied().collect();
            for Relation { to, .. } in needs {
                let node = &mut self.graph.nodes[to];
                if node.component == inside && node.distance > next {
                    node.distance = next;
                    queue.push_back(to);
                }
            }
        }
    }
}
