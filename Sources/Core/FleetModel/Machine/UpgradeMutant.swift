/// Bugs in how programs of different ages get along, built in on purpose when the package is compiled with `-DMUTANTS`, to
/// prove that runs of mixed versions find them. An ordinary build holds none of this.
package enum UpgradeMutant: String, CaseIterable, Sendable {
    /// A leader packs at the level that its own program knows.
    case leaderIgnoresGate
    /// A newer program reads every entry as its own level has it.
    case newerMeaningAtOnce
    /// An older program applies an entry above its level as well as it can.
    case olderGuesses
}
