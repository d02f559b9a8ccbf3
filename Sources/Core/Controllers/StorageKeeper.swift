package import ClusterBase
package import FleetModel

/// Which storage domains of its settings a host reaches, and why not the others.
///
///     look ─▶ marked as the root knows it ────────────────────────────────────▶ reached
///      ▲  │   no mark, another one, no directory, and the root knows a mark ──▶ a sentence that says what to do
///      │  │   nobody knows the domain ─▶ its mark is this cluster's ─▶ name it ─┐
///      │  │       │ no mark, and disks in it, or no VM of any cell has one there│
///      │  │       └─▶ begin: write a mark, then name it ────────────────────────┤
///      └──┴─────────────────────────────────────────────────────────────────────┘ again and again
///
/// So a mark is written by itself only where the domain is new to the whole cluster; from then on an empty directory is not
/// the domain, but the place where it is not mounted.
package struct StorageKeeper: Sendable {
    /// What the agent is to do; each is answered, and until then nothing else is asked about its domain.
    package enum Order: Hashable, Sendable {
        case look(String)
        /// Whether a VM of any cell has a disk there.
        case search(String)
        /// A new mark is written, unless one is there by then.
        case begin(String)
        /// The root is told what is there.
        case name(String, mark: [UInt8])
    }

    /// As far as the root is known here.
    package struct Root: Sendable {
        package var cluster: [UInt8]
        package var domains: [DomainMark]
        /// Before the feature level is open there are no marks.
        package var isOpen: Bool
        package init(cluster: [UInt8], domains: [DomainMark], isOpen: Bool) {
            self.cluster = cluster
            self.domains = domains
            self.isOpen = isOpen
        }
    }

    package static let interval = Nanoseconds.seconds(5)
    /// A storage that takes longer to answer is none to begin a VM with.
    package static let patience = Nanoseconds.seconds(10)
    /// For how long a host that begins waits for the first answers before it says what it has.
    package static let firstPatience = Nanoseconds.seconds(5)
    /// Looks under way at one time: each has a thread.
    package static let looksMax = 8

    private struct Domain: Sendable {
        /// Nil before the first answer.
        var problem: String??
        /// An order is under way since then.
        var busySince: Instant?
        var isLook = false
        var lookAt = Instant.origin

        var isReached: Bool { problem == .some(nil) }
    }

    private let host: String
    private let directory: String
    private let names: [String]
    private var domains: [String: Domain] = [:]  // hash order: looked up by the sorted names
    private var root = Root(cluster: [], domains: [], isOpen: false)
    private var since: Instant?

    /// `directory` has a directory for each domain. A driver that opens no files reaches them all.
    package init(_ names: [String], host: String, directory: String, opensFiles: Bool) {
        self.names = names.sorted()
        self.host = host
        self.directory = directory
        for name in names {
            var domain = Domain()
            if !opensFiles { domain.problem = .some(nil) }
            domains[name] = domain
        }
        looks = opensFiles
    }
    private let looks: Bool

    /// Ascending.
    package var reached: [String] { names.filter { domains[$0]?.isReached ?? false } }
    /// The others, and why; ascending.
    package var problems: [Named] {
        names.compactMap { name in
            guard case .some(.some(let text)) = domains[name]?.problem else { return nil }
            return Named(name, text)
        }
    }
    /// Whether all that can be told at the beginning is told.
    package func isSettled(_ now: Instant) -> Bool {
        if names.allSatisfy({ domains[$0]?.problem != nil }) { return true }
        return since.map { now - $0 >= StorageKeeper.firstPatience } ?? false
    }
    /// By what disks are opened; nil while there are no marks, or it is not known of each whether it has one.
    // hash order: looked up only
    package var marks: [String: [UInt8]]? {
        guard looks, root.isOpen, names.allSatisfy({ domains[$0]?.problem != nil }) else { return nil }
        var marks: [String: [UInt8]] = [:]  // hash order: looked up only
        for domain in root.domains { marks[domain.name] = domain.mark }
        return marks
    }

    /// What is to be done now. Whatever the root knows anew is looked at at once.
    package mutating func plan(_ root: Root, now: Instant) -> [Order] {
        since = since ?? now
        guard looks else { return [] }
        let before = self.root
        self.root = root
        guard root.isOpen else {
            for name in names { domains[name]?.problem = .some(nil) }
            return []
        }
        var orders: [Order] = []
        var open = names.count { domains[$0]?.isLook ?? false }
        for name in names {
            guard var domain = domains[name] else { continue }
            defer { domains[name] = domain }
            if known(name) != before.domains.first(where: { $0.name == name })?.mark { domain.lookAt = now }
            if let began = domain.busySince {
                if now - began >= StorageKeeper.patience && domain.isLook {
                    domain.problem = "\(path(name)) does not answer; see to the storage that is mounted there"
                }
                continue
            }
            guard now >= domain.lookAt, open < StorageKeeper.looksMax else { continue }
            open += 1
            domain.busySince = now
            domain.isLook = true
            domain.lookAt = now + StorageKeeper.interval
            orders.append(.look(name))
        }
        return orders
    }

    /// What a look found, and what is to be done about it.
    package mutating func found(_ name: String, _ finding: StorageFinding, now: Instant) -> Order? {
        guard domains[name] != nil else { return nil }
        end(name)
        guard root.isOpen else { return nil }
        let known = known(name)
        switch finding {
        case .missing:
            let next = known == nil ? ", or make the directory" : ""
            settle(name, "\(path(name)) is no directory: mount the storage domain '\(name)' there\(next)")
        case .unreadable(let reason): settle(name, "\(path(name)) can't be looked at: \(reason)")
        case .marked(let mark) where mark.domain != name:
            settle(name, "what is at \(path(name)) is the storage domain '\(mark.domain)': mount '\(name)' there")
        case .marked(let mark):
            if mark.mark == known {
                settle(name, nil)
            } else if known != nil {
                settle(
                    name,
                    "what is at \(path(name)) is not what the cluster knows as the storage domain '\(name)': mount that there, or "
                        + "say that this is it from now on, with `\(command(name))`")
            } else if mark.cluster == root.cluster {
                return begin(.name(name, mark: mark.mark), name, now)
            } else {
                settle(
                    name,
                    "what is at \(path(name)) is a storage domain of another cluster: mount one of this cluster there, or say that "
                        + "this one is to be its own, with `\(command(name))`")
            }
        case .bare where known != nil:
            settle(
                name,
                "\(path(name)) has no mark of the storage domain '\(name)', which is not mounted there: mount it, or, where this "
                    + "directory is the domain, say so with `\(command(name))`")
        case .bare(hasDisks: true): return begin(.begin(name), name, now)
        case .bare(hasDisks: false): return begin(.search(name), name, now)
        }
        return nil
    }

    /// Whether VMs have disks in a domain that has no mark; nil where that can't be told now.
    package mutating func searched(_ name: String, isUsed: Bool?, now: Instant) -> Order? {
        guard domains[name] != nil else { return nil }
        end(name)
        switch isUsed {
        case false?: return begin(.begin(name), name, now)
        case true?:
            settle(
                name,
                "\(path(name)) is empty, and VMs have disks in the storage domain '\(name)': mount it there, or, where this "
                    + "directory is the domain, say so with `\(command(name))`")
        case nil:
            settle(name, "it can't be told yet whether the storage domain '\(name)' is in use: cells don't answer")
        }
        return nil
    }

    /// A mark was written, or the root was told; or why not. It is looked at again.
    package mutating func done(_ name: String, _ problem: String?, now: Instant) {
        guard domains[name] != nil else { return }
        end(name)
        if let problem { return settle(name, "the storage domain '\(name)' could not be begun: \(problem)") }
        domains[name]?.lookAt = now
    }

    private func known(_ name: String) -> [UInt8]? { root.domains.first { $0.name == name }?.mark }
    private func path(_ name: String) -> String { "\(directory)/\(name)" }
    private func command(_ name: String) -> String { "muster host mark \(host) \(name)" }

    private mutating func begin(_ order: Order, _ name: String, _ now: Instant) -> Order {
        domains[name]?.busySince = now
        return order
    }

    private mutating func end(_ name: String) {
        domains[name]?.busySince = nil
        domains[name]?.isLook = false
    }

    private mutating func settle(_ name: String, _ problem: String?) {
        domains[name]?.problem = .some(problem.map { String($0.prefix(StorageKeeper.textMax)) })
    }

    /// Fits into what a cell takes, whatever the characters.
    private static let textMax = CellLimits.problemBytesMax / 4
}
