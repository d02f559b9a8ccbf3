internal import ClusterBase
internal import FleetModel
internal import Glibc
internal import Reactor

/// The guard's thread for the disk: a disk that stands still must not keep the guard from renewing its lease.
final class GuardDisk: Sendable {
    enum Job: Sendable {
        /// Keep the epoch, then open the file for the process's complaints.
        case prepare(VMID, epoch: UInt64, ticket: UInt64, errorPath: String)
        case log(String)
    }
    struct Prepared: Sendable {
        var vm: VMID
        var epoch: UInt64
        var ticket: UInt64
        /// A descriptor, which is the receiver's now, or what went wrong.
        var errorFile: Result<Int32, GuardFailure>
    }

    static let jobsMax = 4_096
    private let queue = WorkQueue<Job>(itemsMax: GuardDisk.jobsMax)

    /// Begins with the epochs that are written down.
    init(
        _ directory: GuardDirectory, _ highest: [VMID: UInt64], post: @escaping @Sendable (Prepared) -> Void
    ) throws(GuardFailure) {
        let queue = queue
        let book = try Book(directory, highest)
        do throws(SystemError) {
            _ = try WorkerThread("guard-disk") {
                var book = book
                while let jobs = queue.takeAll() {
                    for job in jobs {
                        switch job {
                        case .log(let line): GuardDisk.log(line)
                        case .prepare(let vm, let epoch, let ticket, let errorPath):
                            let made =
                                book.keep(vm, epoch)
                                ? GuardDisk.open(errorPath) : GuardDisk.failure("keep the epoch of VM \(vm)")
                            post(Prepared(vm: vm, epoch: epoch, ticket: ticket, errorFile: made))
                        }
                    }
                }
            }
        } catch {
            throw GuardFailure("The guard's thread for the disk can't be started: \(error).")
        }
    }

    /// False when the disk has stood still for too long.
    func put(_ job: Job) -> Bool { queue.put(job) }

    private static func failure(_ act: String) -> Result<Int32, GuardFailure> {
        .failure(GuardFailure("the guard can't \(act): \(String(cString: strerror(errno)))"))
    }

    private static func open(_ path: String) -> Result<Int32, GuardFailure> {
        let file = Glibc.open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        return file >= 0 ? .success(file) : failure("open \(path)")
    }

    /// On standard error, which is the log's file.
    private static func log(_ line: String) {
        var about = stat()
        if fstat(2, &about) == 0, about.st_size > GuardDirectory.logBytesMax, about.st_mode & S_IFMT == S_IFREG {
            ftruncate(2, 0)
        }
        _ = GuardDirectory.writeAll(2, Array((line + "\n").utf8))
    }
}

/// The file of epochs, as the disk's thread writes it.
private struct Book: Sendable {
    private let directory: GuardDirectory
    private var file: Int32
    private var highest: [VMID: UInt64]
    private var appended = 0
    private var isGood = true

    init(_ directory: GuardDirectory, _ highest: [VMID: UInt64]) throws(GuardFailure) {
        self.directory = directory
        self.highest = highest
        file = -1
        try open()
    }

    private mutating func open() throws(GuardFailure) {
        file = Glibc.open(directory.epochsPath, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o600)
        guard file >= 0 else {
            throw GuardFailure("Can't write \(directory.epochsPath): \(String(cString: strerror(errno))).")
        }
    }

    /// False when it is not on the disk; then nothing can be kept any more, for nobody knows what the file holds.
    mutating func keep(_ vm: VMID, _ epoch: UInt64) -> Bool {
        isGood = isGood && GuardDirectory.writeAll(file, GuardDirectory.line(vm, epoch)) && fdatasync(file) == 0
        guard isGood else { return false }
        highest[vm] = epoch
        appended += 1
        if appended > highest.count + GuardDirectory.staleLinesMax {
            appended = 0
            close(file)
            do throws(GuardFailure) {
                try directory.keep(highest)
                try open()
            } catch {
                isGood = false
            }
        }
        return isGood
    }
}
