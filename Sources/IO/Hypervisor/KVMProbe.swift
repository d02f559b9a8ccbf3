internal import ClusterBase
internal import Glibc
internal import Reactor

/// Finds out whether KVM runs a guest here: a device that opens says nothing, and on nested machines a guest may begin and
/// get stuck. A machine without disks must get through its firmware.
final class KVMProbe {
    static let timeMax = Nanoseconds.seconds(4)
    /// What the firmware says last.
    static let lastWords = "No bootable device"

    private let child: HostProcess.Child?
    private let logPath: String
    private let began = SystemClock.now
    private var why = ""

    init(_ settings: QEMUSettings) {
        logPath = settings.directory + "/kvm-probe.log"
        unlink(logPath)
        guard access("/dev/kvm", R_OK | W_OK) == 0 else {
            child = nil
            why = "/dev/kvm can't be opened (\(String(cString: strerror(errno))))"
            return
        }
        let words = [
            "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", "-accel", "kvm", "-m", "size=16M",
            "-chardev", "file,id=log,path=\(logPath)", "-device", "isa-debugcon,iobase=0x402,chardev=log",
        ]
        // The test guest may get stuck, and an agent that is killed meanwhile can't end it: the kernel does.
        let leash = "/usr/bin/setpriv"
        let isLeashed = access(leash, X_OK) == 0
        let program = isLeashed ? leash : settings.program
        let arguments = isLeashed ? ["--pdeathsig", "KILL", "--", settings.program] + words : words
        switch HostProcess.start(program, arguments, errorPath: settings.directory + "/kvm-probe.err") {
        case .success(let child): self.child = child
        case .failure(let failure):
            child = nil
            why = failure.message
        }
    }

    /// What guests get, and why, once it is known.
    func verdict(_ now: Instant) -> (QEMUMachine.Accelerator, String)? {
        guard let child else { return (.tcg, why) }
        if VMDirectory.text(logPath).contains(KVMProbe.lastWords) {
            end(child)
            return (.kvm, "a test guest ran through its firmware")
        }
        if child.status() != nil { return (.tcg, "KVM's test guest ended: \(child.complaint)") }
        guard now - began > KVMProbe.timeMax else { return nil }
        end(child)
        return (.tcg, "KVM's test guest got stuck in its firmware for \(KVMProbe.timeMax)")
    }

    private func end(_ child: HostProcess.Child) {
        HostProcess.kill(child.pid)
        var status: Int32 = 0
        waitpid(child.pid, &status, 0)
        unlink(logPath)
    }
}
