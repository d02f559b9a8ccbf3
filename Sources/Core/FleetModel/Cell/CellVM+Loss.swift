// What becomes of a VM's row when its host is lost. The cell does it, and a rehearsal of a loss plays it through.

extension CellVM {
    package mutating func enter(_ phase: Phase, at time: LogTime) {
        if self.phase == phase { return }
        self.phase = phase
        since = time
    }

    /// It has no place, and waits for one if it is to run.
    package mutating func leavePlace(at time: LogTime) {
        place = nil
        held = nil
        runningGeneration = 0
        if power == .stopped || isDeleting {
            enter(.stopped, at: time)
        } else if phase != .waiting {
            enter(.waiting, at: time)
            queuedAt = time
        }
    }

    /// What ties it to a host that is lost and runs nothing any more; nil for one that leaves it.
    package var tieToLostHost: CellPlan.Left.Cause? {
        if isDeleting || place?.isReleasing == true { return nil }
        if boundTo != nil { return .localDisk }
        return spec.restart == .never && power != .stopped ? .neverRestarts : nil
    }
}
