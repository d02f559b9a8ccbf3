import FleetModel
import RaftCore

// Feature levels: what may be written, and how what was written is read.

extension NodeEngine {
    /// The cluster has opened a feature level. Levels never close.
    package func open(level: UInt32) {
        levelOpen = max(levelOpen, level)
        if levelOpen >= FeatureLevel.rest { liveness.allowRest(now: lastNow) }
    }

    /// What this node packs as a leader: nothing that some node may not understand.
    var packLevel: UInt32 {
        #if MUTANTS
        if settings.upgradeMutant == .leaderIgnoresGate { return settings.level }
        #endif
        return min(levelOpen, settings.level)
    }

    /// The pack as this node reads it.
    func understood(_ pack: [UInt8]) -> [UInt8] {
        #if MUTANTS
        // A pack begins with its level, whose tag and value are a byte each.
        if settings.upgradeMutant == .newerMeaningAtOnce, pack.count > 1, UInt32(pack[1]) < settings.level {
            return [pack[0], UInt8(settings.level)] + pack.dropFirst(2)
        }
        if settings.upgradeMutant == .olderGuesses, pack.count > 1, UInt32(pack[1]) > settings.level {
            return [pack[0], UInt8(settings.level)] + pack.dropFirst(2)
        }
        #endif
        return pack
    }
}
