//! What a drill has to tell.

use strongroom_core::limits;
use strongroom_core::verification::Outcome;

/// Sentences, told up to a limit and counted beyond.
#[derive(Debug, Default)]
pub struct Told {
    sentences: Vec<String>,
    more: u64,
}

impl Told {
    pub fn tell(&mut self, sentence: String) {
        if self.sentences.len() < limits::DRILL_FINDINGS_MAX {
            self.sentences.push(sentence);
        } else {
            self.more += 1;
        }
    }

    pub fn into_sentences(mut self) -> Vec<String> {
        if self.more > 0 {
            self.sentences.push(format!("There are {} more findings like these.", self.more));
        }
        self.sentences
    }
}

/// What a part of a drill comes to when these were its findings.
pub fn outcome_of(failures: usize, unjudged: usize) -> Outcome {
    match (failures, unjudged) {
        (0, 0) => Outcome::Passed,
        (0, _) => Outcome::NotRun,
        _ => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_bounded_and_their_number_is_told() {
        let mut told = Told::default();
        for number in 0..limits::DRILL_FINDINGS_MAX + 3 {
            told.tell(number.to_string());
        }
        let sentences = told.into_sentences();
        assert_eq!(sentences.len(), limits::DRILL_FINDINGS_MAX + 1);
        assert!(sentences.last().unwrap().contains("3 more"));
    }
}
