//! Shows shares as they go: a bar for each where a person watches, else a line for each state.

use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::answers::Share;
use super::terminal::Terminal;
use super::text::{fitted, safe};

/// How much of a name stands beside a bar where there are several.
const NAME_COLUMNS: usize = 20;

/// What shows them.
pub(super) struct Display<'t> {
    terminal: &'t mut Terminal,
    bars: Option<Bars>,
    /// Whether there are several, so that each line needs a name.
    are_several: bool,
    /// The state of each as it was last told.
    states: BTreeMap<String, String>,
    /// The last words about those that are over, told when the bars are gone.
    last_words: Vec<String>,
}

struct Bars {
    all: MultiProgress,
    of: BTreeMap<String, ProgressBar>,
}

impl<'t> Display<'t> {
    pub(super) fn new(terminal: &'t mut Terminal, are_several: bool) -> Self {
        let bars =
            terminal.is_watched.then(|| Bars { all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()), of: BTreeMap::new() });
        Self { terminal, bars, are_several, states: BTreeMap::new(), last_words: Vec::new() }
    }

    /// Shows a share as it stands.
    pub(super) fn show(&mut self, share: &Share) {
        let sentence = self.sentence(share);
        match &mut self.bars {
            Some(bars) => bars.show(share, self.are_several),
            None if self.states.get(&share.id) != Some(&share.state) => self.terminal.say(&sentence),
            None => {}
        }
        self.states.insert(share.id.clone(), share.state.clone());
    }

    /// Shows that a share is over.
    pub(super) fn end(&mut self, share: &Share) {
        if self.bars.is_some() {
            self.last_words.push(self.sentence(share));
        }
    }

    /// Takes the bars away and hands the terminal back for a last word.
    pub(super) fn gone(self) -> &'t mut Terminal {
        if let Some(bars) = self.bars {
            bars.of.values().for_each(ProgressBar::finish_and_clear);
            // If the terminal is gone nobody sees what is left on it.
            let _ = bars.all.clear();
        }
        for words in &self.last_words {
            self.terminal.say(words);
        }
        self.terminal
    }

    fn sentence(&self, share: &Share) -> String {
        if self.are_several { format!("{}: {}", share.name, share.state_text) } else { share.state_text.clone() }
    }
}

impl Bars {
    fn show(&mut self, share: &Share, is_named: bool) {
        let bar = self.of.entry(share.id.clone()).or_insert_with(|| {
            // What the bar leaves of a narrow terminal must do for the sentence.
            let is_narrow = console::Term::stderr().size().1 < 60;
            let template = if is_narrow { "{bar:8} {prefix}{wide_msg}" } else { "{bar:24} {prefix}{wide_msg}" };
            let style = ProgressStyle::with_template(template).expect("the template is well formed");
            let bar = self.all.add(ProgressBar::new(0)).with_style(style);
            if is_named { bar.with_prefix(format!("{}: ", fitted(&safe(&share.name), NAME_COLUMNS))) } else { bar }
        });
        bar.set_length(share.size_bytes);
        bar.set_position(share.progress.delivered_bytes);
        bar.set_message(safe(&share.state_text));
    }
}
