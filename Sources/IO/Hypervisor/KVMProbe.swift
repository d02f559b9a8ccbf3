package import ClusterBase
internal import Glibc
internal import Reactor

/// Finds out whether KVM runs a guest here: a device that opens says nothing, and on nested machines a guest may begin and
/// get stuck: in its firmware, or later, where real and protected mode are carried out one instruction at a time and the rest
/// not at all. So a machine must get through its firmware, enter long mode there, and count at a processor's speed.
package final class KVMProbe {
    static let timeMax = Nanoseconds.seconds(4)
    private static let diskName = "kvm-probe.img"
    /// What the guest says when it has counted.
    static let lastWords = "long mode runs"

    private let child: HostProcess.Child?
    private let logPath: String
    private let diskPath: String
    private let began = SystemClock.now
    private var why = ""

    /// Tests run its guest without KVM, too.
    package init(_ settings: QEMUSettings, device: String = "/dev/kvm", accelerator: String = "kvm") {
        logPath = settings.directory + "/kvm-probe.log"
        diskPath = settings.directory + "/" + KVMProbe.diskName
        unlink(logPath)
        guard access(device, R_OK | W_OK) == 0 else {
            child = nil
            why = "\(device) can't be opened (\(String(cString: strerror(errno))))"
            return
        }
        if let problem = settings.users?.deviceProblem {
            child = nil
            why = problem
            return
        }
        guard VMDirectory(path: settings.directory).replace(KVMProbe.diskName, KVMProbe.bootSector) else {
            child = nil
            why = "its test guest can't be written to \(diskPath): \(String(cString: strerror(errno)))"
            return
        }
        let words = [
            "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", "-accel", accelerator, "-m",
            "size=16M",
            "-drive", "if=none,id=boot,format=raw,read-only=on,file=\(diskPath)", "-device", "isa-fdc,id=fdc",
            "-device", "floppy,drive=boot",
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
    package func verdict(_ now: Instant) -> (QEMUMachine.Accelerator, String)? {
        guard let child else { return (.tcg, why) }
        if VMDirectory.text(logPath).contains(KVMProbe.lastWords) {
            end(child)
            return (.kvm, "a test guest ran through its firmware and in long mode")
        }
        if child.status() != nil {
            clear()
            return (.tcg, "KVM's test guest ended: \(child.complaint)")
        }
        guard now - began > KVMProbe.timeMax else { return nil }
        end(child)
        return (.tcg, "KVM's test guest did not run through its firmware and in long mode within \(KVMProbe.timeMax)")
    }

    private func end(_ child: HostProcess.Child) {
        HostProcess.kill(child.pid)
        var status: Int32 = 0
        waitpid(child.pid, &status, 0)
        clear()
    }

    private func clear() {
        unlink(logPath)
        unlink(diskPath)
    }

    /// A floppy disk's only sector, which the firmware loads at 0x7C00.
    static let bootSector: [UInt8] = {
        var bytes: [UInt8] = [
            0xFA, 0xFC,  // cli; cld
            0x31, 0xC0, 0x8E, 0xD8, 0x8E, 0xC0, 0x8E, 0xD0,  // ax, ds, es, ss = 0
            0x66, 0xBF, 0x00, 0x90, 0x00, 0x00,  // three pages of page tables at 0x9000: zero
            0x66, 0xB9, 0x00, 0x0C, 0x00, 0x00, 0x66, 0x31, 0xC0, 0xF3, 0x66, 0xAB,  // ecx = 0xC00; rep stosl
            0xC7, 0x06, 0x00, 0x90, 0x03, 0xA0,  // level 4: the table at 0xA000
            0xC7, 0x06, 0x00, 0xA0, 0x03, 0xB0,  // level 3: the table at 0xB000
            0xC7, 0x06, 0x00, 0xB0, 0x83, 0x00,  // level 2: 2 MiB from 0 on
            0x0F, 0x20, 0xE0, 0x0C, 0x20, 0x0F, 0x22, 0xE0,  // cr4 |= PAE
            0x66, 0xB8, 0x00, 0x90, 0x00, 0x00, 0x0F, 0x22, 0xD8,  // cr3 = 0x9000
            0x66, 0xB9, 0x80, 0x00, 0x00, 0xC0, 0x0F, 0x32, 0x80, 0xCC, 0x01, 0x0F, 0x30,  // EFER |= LME
            0x0F, 0x01, 0x16, 0x8B, 0x7C,  // lgdt
            0x66, 0xB8, 0x01, 0x00, 0x00, 0x80, 0x0F, 0x22, 0xC0,  // cr0 = PG | PE
            0xEA, 0x5F, 0x7C, 0x08, 0x00,  // a jump into the segment of long mode, to the next line
            0xB9, 0x00, 0xE1, 0xF5, 0x05, 0xFF, 0xC9, 0x75, 0xFC,  // 100,000,000 times: decl %ecx; jnz
            0xBE, 0x91, 0x7C, 0x00, 0x00, 0xB9, 0x0E, 0x00, 0x00, 0x00,  // esi, ecx = the last words, all 14
            0x66, 0xBA, 0x02, 0x04, 0xF3, 0x6E,  // rep outsb to port 0x402
            0xF4, 0xEB, 0xFD,  // hlt, for ever
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x9A, 0x20, 0x00,  // segments: none, and 64-bit code
            0x0F, 0x00, 0x7B, 0x7C, 0x00, 0x00,  // their table's size and place
        ]
        bytes += lastWords.utf8
        bytes += [UInt8](repeating: 0, count: 510 - bytes.count)
        return bytes + [0x55, 0xAA]
    }()
}
