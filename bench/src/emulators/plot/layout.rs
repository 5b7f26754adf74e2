//! Where everything stands in a plot: a title and a note, a legend below, then the groups of bars. In CSS pixels.
//!
//! Positions follow from the numbers alone; [`super`] draws.

/// Of the whole plot.
pub(super) const WIDTH: f64 = 820.0;
/// Around all that is drawn.
pub(super) const MARGIN: f64 = 20.0;
/// From one line of text to the next.
pub(super) const LINE: f64 = 20.0;
/// From the top of a line of text to its baseline.
pub(super) const ASCENT: f64 = 13.0;
/// Thickness of a bar.
pub(super) const BAR: f64 = 14.0;
/// From one bar of a group to the next.
const STEP: f64 = 16.0;
/// Between two groups.
const GAP: f64 = 10.0;
/// Where bars begin: to the left are their titles.
pub(super) const LEFT: f64 = 210.0;
/// Where the longest bar ends: to the right are numbers.
const RIGHT: f64 = 670.0;
/// Where the first number ends; the second one ends at the margin.
pub(super) const RATIOS: f64 = 720.0;

/// A plot without its words.
#[derive(Debug, PartialEq)]
pub(super) struct Layout {
    /// Top of each line of the legend.
    pub(super) legend: Vec<f64>,
    /// Top of what is below the legend.
    pub(super) top: f64,
    /// By group.
    pub(super) bars: Vec<Vec<Place>>,
    /// How far to the right of [`LEFT`] a bar of 1 ends.
    pub(super) one: f64,
    /// Of the whole plot.
    pub(super) height: f64,
}

/// Where a bar is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    pub(super) top: f64,
    pub(super) length: f64,
}

impl Layout {
    /// The layout of bars as long as these numbers, by group; the longest one, or 1, takes all the room that there is.
    pub(super) fn of(legend_lines: usize, groups: &[Vec<f64>]) -> Self {
        let longest = groups.iter().flatten().copied().fold(1.0, f64::max);
        let one = (RIGHT - LEFT) / longest;
        let mut y = MARGIN + 2.0 * LINE + GAP;
        let legend = tops(&mut y, LINE, legend_lines);
        y += GAP;
        let top = y;
        let mut bars = Vec::with_capacity(groups.len());
        for group in groups {
            let lengths = group.iter().map(|ratio| ratio * one);
            let tops = tops(&mut y, STEP, group.len());
            let places = tops.into_iter().zip(lengths);
            bars.push(places.map(|(top, length)| Place { top, length }).collect());
            y += GAP;
        }
        let height = y - GAP + MARGIN;
        Self { legend, top, bars, one, height }
    }
}

/// So many things one below the other, from `y` on, which is then below the last one.
fn tops(y: &mut f64, step: f64, count: usize) -> Vec<f64> {
    let one = |_| {
        let top = *y;
        *y += step;
        top
    };
    (0..count).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_takes_all_the_room() {
        for (ratios, longest) in [(vec![0.5, 1.0], 1.0), (vec![4.0, 1.0], 4.0), (vec![0.2], 1.0)] {
            let layout = Layout::of(2, std::slice::from_ref(&ratios));
            assert!((layout.one * longest - (RIGHT - LEFT)).abs() < 1e-9, "{ratios:?}");
            let lengths = layout.bars[0].iter().map(|bar| bar.length);
            assert!(lengths.clone().all(|length| length <= RIGHT - LEFT + 1e-9), "{ratios:?}");
        }
    }

    #[test]
    fn nothing_overlaps() {
        let layout = Layout::of(3, &[vec![0.5, 1.0, 2.0], vec![0.1, 1.0, 1.5]]);
        let heads = layout.legend.iter().map(|&top| (top, LINE));
        let bars = layout.bars.iter().flatten().map(|bar| (bar.top, BAR));
        let mut end = MARGIN + 2.0 * LINE;
        for (top, height) in heads.chain(bars) {
            assert!(top >= end, "{top} is above {end}");
            end = top + height;
        }
        assert!(end < layout.height, "{end} of {}", layout.height);
    }

    #[test]
    fn no_groups_leave_the_words() {
        let layout = Layout::of(1, &[]);
        assert!(layout.bars.is_empty());
        assert!(layout.height > layout.legend[0] + LINE);
    }
}
