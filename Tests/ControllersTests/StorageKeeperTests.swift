import ClusterBase
import Controllers
import FleetModel
import Testing

/// What a host makes of what it finds where its storage domains should be.
@Suite struct StorageKeeperTests {
    private static let cluster = [UInt8](repeating: 7, count: 16)
    private static func bytes(_ byte: UInt8) -> [UInt8] { [UInt8](repeating: byte, count: StorageMark.markBytes) }
    private static func mark(
        _ byte: UInt8, domain: String = "fast", cluster: [UInt8] = StorageKeeperTests.cluster
    ) -> StorageFinding {
        .marked(StorageMark(domain: domain, cluster: cluster, mark: bytes(byte)))
    }
    private static func root(_ marks: [String: UInt8] = [:], isOpen: Bool = true) -> StorageKeeper.Root {
        StorageKeeper.Root(
            cluster: cluster,
            domains: marks.keys.sorted().map { DomainMark(name: $0, mark: bytes(marks[$0] ?? 0)) }, isOpen: isOpen)
    }
    private static func keeper(_ names: [String] = ["fast"], opensFiles: Bool = true) -> StorageKeeper {
        StorageKeeper(names, host: "n1", directory: "/srv", opensFiles: opensFiles)
    }
    private func at(_ seconds: Int64) -> Instant { Instant(nanoseconds: seconds * 1_000_000_000) }

    /// What a keeper makes of one finding.
    private func verdict(_ finding: StorageFinding, known: UInt8?) -> (order: StorageKeeper.Order?, text: String?) {
        var keeper = StorageKeeperTests.keeper()
        let root = StorageKeeperTests.root(known.map { ["fast": $0] } ?? [:])
        #expect(keeper.plan(root, now: at(0)) == [.look("fast")])
        let order = keeper.found("fast", finding, now: at(0))
        #expect(keeper.reached.isEmpty || keeper.problems.isEmpty)
        return (order, keeper.reached == ["fast"] ? "reached" : keeper.problems.first?.value)
    }

    @Test func `a domain that the cluster knows is reached where its mark is, and nowhere else`() {
        func text(_ finding: StorageFinding) -> String {
            let (order, text) = verdict(finding, known: 1)
            #expect(order == nil, "nothing is ever written for a domain that is known")
            return text ?? ""
        }
        #expect(text(StorageKeeperTests.mark(1)) == "reached")
        #expect(text(StorageKeeperTests.mark(1, cluster: [1])) == "reached", "that of a cluster that was restored")
        for isEmpty in [true, false] {
            let bare = text(.bare(hasDisks: !isEmpty))
            #expect(bare.contains("/srv/fast has no mark") && bare.contains("muster host mark n1 fast"))
        }
        #expect(text(StorageKeeperTests.mark(2)).contains("is not what the cluster knows as"))
        #expect(text(StorageKeeperTests.mark(1, domain: "slow")).contains("is the storage domain 'slow'"))
        #expect(text(.missing).contains("mount the storage domain 'fast' there"))
        #expect(text(.unreadable("it hangs")).contains("it hangs"))
    }

    @Test func `only a domain that is new to the whole cluster is begun by itself`() {
        #expect(verdict(.bare(hasDisks: true), known: nil).order == .begin("fast"), "as before there were marks")
        #expect(verdict(.bare(hasDisks: false), known: nil).order == .search("fast"))
        #expect(
            verdict(StorageKeeperTests.mark(1), known: nil).order == .name("fast", mark: StorageKeeperTests.bytes(1)))
        let (order, text) = verdict(StorageKeeperTests.mark(1, cluster: [9]), known: nil)
        #expect(order == nil && text?.contains("another cluster") == true)
        #expect(verdict(.missing, known: nil).text?.contains("or make the directory") == true)
    }

    @Test func `an empty directory is no domain that VMs have disks in, and is one that nobody uses`() {
        var keeper = StorageKeeperTests.keeper()
        for (seconds, isUsed) in [(0, nil), (10, true), (20, false)] as [(Int64, Bool?)] {
            #expect(keeper.plan(StorageKeeperTests.root(), now: at(seconds)) == [.look("fast")])
            #expect(keeper.found("fast", .bare(hasDisks: false), now: at(seconds)) == .search("fast"))
            #expect(keeper.plan(StorageKeeperTests.root(), now: at(seconds + 9)).isEmpty, "it is being looked for")
            let order = keeper.searched("fast", isUsed: isUsed, now: at(seconds))
            #expect(order == (isUsed == false ? .begin("fast") : nil))
            if isUsed == true { #expect(keeper.problems[0].value.contains("VMs have disks in")) }
        }
        keeper.done("fast", nil, now: at(21))
        #expect(keeper.plan(StorageKeeperTests.root(), now: at(21)) == [.look("fast")])
        let order = keeper.found("fast", StorageKeeperTests.mark(1), now: at(21))
        #expect(order == .name("fast", mark: StorageKeeperTests.bytes(1)))
        keeper.done("fast", nil, now: at(22))
        #expect(keeper.plan(StorageKeeperTests.root(["fast": 1]), now: at(22)) == [.look("fast")])
        #expect(keeper.found("fast", StorageKeeperTests.mark(1), now: at(22)) == nil && keeper.reached == ["fast"])
        #expect(keeper.marks == ["fast": StorageKeeperTests.bytes(1)])
    }

    @Test func `what is unmounted or marked anew is noticed, and comes back`() {
        var keeper = StorageKeeperTests.keeper()
        func look(_ root: StorageKeeper.Root, _ finding: StorageFinding, _ seconds: Int64) -> [String] {
            #expect(keeper.plan(root, now: at(seconds)) == [.look("fast")])
            #expect(keeper.found("fast", finding, now: at(seconds)) == nil)
            return keeper.reached
        }
        #expect(look(StorageKeeperTests.root(["fast": 1]), StorageKeeperTests.mark(1), 0) == ["fast"])
        #expect(keeper.plan(StorageKeeperTests.root(["fast": 1]), now: at(4)).isEmpty)
        #expect(look(StorageKeeperTests.root(["fast": 1]), .bare(hasDisks: false), 5) == [])
        #expect(look(StorageKeeperTests.root(["fast": 1]), StorageKeeperTests.mark(1), 10) == ["fast"])
        // Somebody marked another storage: at once, not at the next look.
        #expect(look(StorageKeeperTests.root(["fast": 2]), StorageKeeperTests.mark(1), 11) == [])
        #expect(look(StorageKeeperTests.root(["fast": 2]), StorageKeeperTests.mark(2), 16) == ["fast"])
    }

    @Test func `a storage that hangs is not offered, and holds up neither its host nor other domains`() {
        var keeper = StorageKeeperTests.keeper(["fast", "slow"])
        let root = StorageKeeperTests.root(["fast": 1, "slow": 2])
        #expect(keeper.plan(root, now: at(0)) == [.look("fast"), .look("slow")])
        #expect(keeper.found("fast", StorageKeeperTests.mark(1), now: at(0)) == nil)
        #expect(!keeper.isSettled(at(1)) && keeper.marks == nil)
        #expect(keeper.isSettled(at(5)) && keeper.reached == ["fast"])
        #expect(keeper.plan(root, now: at(10)) == [.look("fast")])
        #expect(keeper.problems.map(\.key) == ["slow"] && keeper.problems[0].value.contains("does not answer"))
        #expect(keeper.found("slow", StorageKeeperTests.mark(2, domain: "slow"), now: at(11)) == nil)
        #expect(keeper.reached == ["fast", "slow"] && keeper.problems.isEmpty)
    }

    @Test func `before the level is open, and without files, all domains are reached as they were`() {
        var old = StorageKeeperTests.keeper(["slow", "fast"])
        #expect(!old.isSettled(at(0)))
        #expect(old.plan(StorageKeeperTests.root(isOpen: false), now: at(0)).isEmpty && old.isSettled(at(0)))
        #expect(old.reached == ["fast", "slow"] && old.marks == nil)
        // When it opens, they stay until something else is known.
        #expect(old.plan(StorageKeeperTests.root(), now: at(1)).count == 2 && old.reached == ["fast", "slow"])
        #expect(old.found("fast", .missing, now: at(1)) == nil && old.reached == ["slow"])
        var simulated = StorageKeeperTests.keeper(opensFiles: false)
        #expect(simulated.isSettled(at(0)) && simulated.reached == ["fast"])
        #expect(simulated.plan(StorageKeeperTests.root(["fast": 1]), now: at(0)).isEmpty && simulated.marks == nil)
    }

    @Test func `a mark is read as it was written, and nothing else is one`() {
        let mark = StorageMark(domain: "fast", cluster: [0, 255], mark: StorageKeeperTests.bytes(10))
        #expect(StorageMark(mark.text) == mark && mark.text.utf8.count < StorageMark.bytesMax)
        for text in ["", "domain fast\n", String(mark.text.dropLast(2)), mark.text + "x", "mark 0\ncluster \ndomain a"]
        {
            #expect(StorageMark(text) == nil, "\(text)")
        }
    }
}
