// Taps and bridges of Linux. Every call gives its result or the negated errno, and nothing here waits.
#ifndef CTAP_SHIM_H
#define CTAP_SHIM_H

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static inline int ctap_name(struct ifreq *request, const char *name) {
    memset(request, 0, sizeof *request);
    if (strlen(name) >= IFNAMSIZ) return -ENAMETOOLONG;
    strcpy(request->ifr_name, name);
    return 0;
}

/// A tap that stays until it is taken away (`stays` 1), or goes (0). `user` may open it, too; 0 for nobody else.
static inline int ctap_keep(const char *name, int stays, uint32_t user) {
    struct ifreq request;
    int result = ctap_name(&request, name);
    if (result < 0) return result;
    int file = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (file < 0) return -errno;
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if (ioctl(file, TUNSETIFF, &request) < 0 || ioctl(file, TUNSETPERSIST, (long)stays) < 0
        || (stays && user != 0 && ioctl(file, TUNSETOWNER, (unsigned long)user) < 0))
        result = -errno;
    close(file);
    return result;
}

static inline int ctap_ask(unsigned long what, struct ifreq *request) {
    int file = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (file < 0) return -errno;
    int result = ioctl(file, what, request) < 0 ? -errno : 0;
    close(file);
    return result;
}

static inline int ctap_set_address(const char *name, const uint8_t address[6]) {
    struct ifreq request;
    int result = ctap_name(&request, name);
    if (result < 0) return result;
    request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    memcpy(request.ifr_hwaddr.sa_data, address, 6);
    return ctap_ask(SIOCSIFHWADDR, &request);
}

static inline int ctap_up(const char *name) {
    struct ifreq request;
    int result = ctap_name(&request, name);
    if (result < 0 || (result = ctap_ask(SIOCGIFFLAGS, &request)) < 0) return result;
    request.ifr_flags |= IFF_UP;
    return ctap_ask(SIOCSIFFLAGS, &request);
}

/// One that is a port of it already is as good.
static inline int ctap_join(const char *bridge, const char *name) {
    struct ifreq request;
    int result = ctap_name(&request, bridge);
    if (result < 0) return result;
    request.ifr_ifindex = (int)if_nametoindex(name);
    if (request.ifr_ifindex == 0) return -errno;
    result = ctap_ask(SIOCBRADDIF, &request);
    return result == -EBUSY ? 0 : result;
}

#endif
