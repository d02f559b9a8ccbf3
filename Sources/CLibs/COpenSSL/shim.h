// What Swift cannot import from OpenSSL's headers: macros with arguments, variadic functions, and callbacks that
// must be C. Everything else is called as it is.
#ifndef MUSTER_COPENSSL_SHIM_H
#define MUSTER_COPENSSL_SHIM_H

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// A pipe: ciphertext on its way between a session and whoever owns the socket. OpenSSL's own memory BIO would do, but
// it can neither be read in place nor give memory back. One thread at a time uses a pipe.
typedef struct {
    unsigned char *data;
    size_t start;
    size_t end;
    size_t capacity;
    // An empty pipe that has more memory than this gives it back.
    size_t retained;
} copenssl_pipe;

static inline size_t copenssl_pipe_count(const copenssl_pipe *pipe) { return pipe->end - pipe->start; }

// Appends, or returns 0 when there is no memory.
static inline int copenssl_pipe_append(copenssl_pipe *pipe, const void *bytes, size_t count) {
    if (count == 0) return 1;
    if (pipe->capacity - pipe->end < count) {
        size_t held = pipe->end - pipe->start;
        if (pipe->start > 0 && held > 0) memmove(pipe->data, pipe->data + pipe->start, held);
        pipe->start = 0;
        pipe->end = held;
        if (pipe->capacity - held < count) {
            size_t wanted = pipe->capacity ? pipe->capacity : 16384;
            while (wanted - held < count) wanted *= 2;
            unsigned char *grown = (unsigned char *)realloc(pipe->data, wanted);
            if (!grown) return 0;
            pipe->data = grown;
            pipe->capacity = wanted;
        }
    }
    memcpy(pipe->data + pipe->end, bytes, count);
    pipe->end += count;
    return 1;
}

static inline void copenssl_pipe_consume(copenssl_pipe *pipe, size_t count) {
    pipe->start += count;
    if (pipe->start < pipe->end) return;
    pipe->start = pipe->end = 0;
    if (pipe->capacity > pipe->retained) {
        free(pipe->data);
        pipe->data = NULL;
        pipe->capacity = 0;
    }
}

static inline void copenssl_pipe_free(copenssl_pipe *pipe) {
    free(pipe->data);
    pipe->data = NULL;
    pipe->start = pipe->end = pipe->capacity = 0;
}

static inline int copenssl_pipe_bio_write(BIO *bio, const char *bytes, int count) {
    BIO_clear_retry_flags(bio);
    if (count <= 0) return 0;
    return copenssl_pipe_append((copenssl_pipe *)BIO_get_data(bio), bytes, (size_t)count) ? count : -1;
}

static inline int copenssl_pipe_bio_read(BIO *bio, char *into, int count) {
    copenssl_pipe *pipe = (copenssl_pipe *)BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    size_t held = copenssl_pipe_count(pipe);
    if (count <= 0) return 0;
    if (held == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t taken = held < (size_t)count ? held : (size_t)count;
    memcpy(into, pipe->data + pipe->start, taken);
    copenssl_pipe_consume(pipe, taken);
    return (int)taken;
}

static inline long copenssl_pipe_bio_control(BIO *bio, int command, long number, void *pointer) {
    (void)number;
    (void)pointer;
    switch (command) {
    case BIO_CTRL_FLUSH: return 1;
    case BIO_CTRL_PENDING:
    case BIO_CTRL_WPENDING: return (long)copenssl_pipe_count((copenssl_pipe *)BIO_get_data(bio));
    default: return 0;
    }
}

// The method outlives every BIO that is made with it.
static inline BIO_METHOD *copenssl_pipe_method(void) {
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "pipe");
    if (!method) return NULL;
    BIO_meth_set_write(method, copenssl_pipe_bio_write);
    BIO_meth_set_read(method, copenssl_pipe_bio_read);
    BIO_meth_set_ctrl(method, copenssl_pipe_bio_control);
    return method;
}

// A BIO over a pipe that somebody else owns and frees after it.
static inline BIO *copenssl_pipe_bio(const BIO_METHOD *method, copenssl_pipe *pipe) {
    BIO *bio = BIO_new(method);
    if (!bio) return NULL;
    BIO_set_data(bio, pipe);
    BIO_set_init(bio, 1);
    return bio;
}

// Contexts.

/// Only for measuring what knows nothing newer.
static inline int copenssl_allow_tls12(SSL_CTX *context) {
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
    return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
}

static inline int copenssl_require_tls13(SSL_CTX *context) {
    return SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1
        && SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1;
}

static inline void copenssl_set_modes(SSL_CTX *context, int frugal) {
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
    if (frugal) SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
}

static inline int copenssl_set_groups(SSL_CTX *context, const char *names) {
    return (int)SSL_CTX_set1_groups_list(context, (char *)(uintptr_t)names);
}

// Takes the certificate's reference over only by counting one of its own.
static inline int copenssl_add_chain_certificate(SSL_CTX *context, X509 *certificate) {
    return (int)SSL_CTX_add1_chain_cert(context, certificate);
}

static inline void copenssl_set_server_name(SSL *session, const char *name) { SSL_set_tlsext_host_name(session, name); }

// The protocols of a server in wire format: each name with its length before it.
typedef struct {
    const unsigned char *bytes;
    unsigned int count;
} copenssl_protocols;

static inline int copenssl_select_protocol(
    SSL *session, const unsigned char **chosen, unsigned char *chosen_count, const unsigned char *offered,
    unsigned int offered_count, void *argument
) {
    const copenssl_protocols *mine = (const copenssl_protocols *)argument;
    unsigned char *found = NULL;
    (void)session;
    if (SSL_select_next_proto(&found, chosen_count, mine->bytes, mine->count, offered, offered_count)
        != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *chosen = found;
    return SSL_TLSEXT_ERR_OK;
}

static inline void copenssl_set_selected_protocols(SSL_CTX *context, copenssl_protocols *protocols) {
    SSL_CTX_set_alpn_select_cb(context, copenssl_select_protocol, protocols);
}

// Verifies a chain whose root is known by nothing but its SHA-256, the 32 bytes at `argument`. The root must be in what
// the other side sent; every other check is OpenSSL's own.
static inline int copenssl_verify_pinned(X509_STORE_CTX *store, void *argument) {
    STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(store);
    STACK_OF(X509) *trusted = sk_X509_new_null();
    int result = 0;
    if (!trusted) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_OUT_OF_MEM);
        return 0;
    }
    for (int i = 0; i < sk_X509_num(sent); i++) {
        X509 *candidate = sk_X509_value(sent, i);
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned int count = 0;
        if (X509_digest(candidate, EVP_sha256(), digest, &count) == 1 && count == 32
            && CRYPTO_memcmp(digest, argument, 32) == 0)
            sk_X509_push(trusted, candidate);
    }
    if (sk_X509_num(trusted) == 0) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN);
    } else {
        X509_STORE_CTX_set0_trusted_stack(store, trusted);
        result = X509_verify_cert(store);
    }
    // The verified chain holds references of its own; only the list of candidates ends here.
    sk_X509_free(trusted);
    return result > 0;
}

static inline void copenssl_set_pinned(SSL_CTX *context, void *fingerprint) {
    SSL_CTX_set_cert_verify_callback(context, copenssl_verify_pinned, fingerprint);
}

// Lists.

static inline int copenssl_chain_count(const STACK_OF(X509) *chain) { return chain ? sk_X509_num(chain) : 0; }
static inline X509 *copenssl_chain_item(const STACK_OF(X509) *chain, int i) { return sk_X509_value(chain, i); }
static inline int copenssl_names_count(const GENERAL_NAMES *names) { return names ? sk_GENERAL_NAME_num(names) : 0; }
static inline const GENERAL_NAME *copenssl_names_item(const GENERAL_NAMES *names, int i) {
    return sk_GENERAL_NAME_value(names, i);
}
static inline void copenssl_names_free(GENERAL_NAMES *names) { GENERAL_NAMES_free(names); }
static inline int copenssl_name_kind(const GENERAL_NAME *name) { return name->type; }
// The text of a DNS name or URI, or the bytes of an address; NULL for other kinds.
static inline const unsigned char *copenssl_name_bytes(const GENERAL_NAME *name, int *count) {
    const ASN1_STRING *text = NULL;
    switch (name->type) {
    case GEN_DNS: text = name->d.dNSName; break;
    case GEN_URI: text = name->d.uniformResourceIdentifier; break;
    case GEN_IPADD: text = name->d.iPAddress; break;
    default: return NULL;
    }
    *count = ASN1_STRING_length(text);
    return ASN1_STRING_get0_data(text);
}

static inline GENERAL_NAMES *copenssl_certificate_names(const X509 *certificate) {
    return (GENERAL_NAMES *)X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
}

static inline GENERAL_NAMES *copenssl_request_names(X509_REQ *request) {
    STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(request);
    if (!extensions) return NULL;
    GENERAL_NAMES *names = (GENERAL_NAMES *)X509V3_get_d2i(extensions, NID_subject_alt_name, NULL, NULL);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    return names;
}

static inline GENERAL_NAMES *copenssl_names_new(void) { return GENERAL_NAMES_new(); }

// Appends a DNS name, a URI or the 4 or 16 bytes of an address; returns 0 when there is no memory.
static inline int copenssl_names_add(GENERAL_NAMES *names, int kind, const unsigned char *bytes, int count) {
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_STRING *text = ASN1_STRING_type_new(kind == GEN_IPADD ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);
    if (!name || !text || ASN1_STRING_set(text, bytes, count) != 1) {
        GENERAL_NAME_free(name);
        ASN1_STRING_free(text);
        return 0;
    }
    GENERAL_NAME_set0_value(name, kind, text);
    if (sk_GENERAL_NAME_push(names, name) > 0) return 1;
    GENERAL_NAME_free(name);
    return 0;
}

static inline int copenssl_certificate_add_names(X509 *certificate, GENERAL_NAMES *names, int critical) {
    return X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, critical, X509V3_ADD_DEFAULT);
}

static inline int copenssl_request_add_names(X509_REQ *request, GENERAL_NAMES *names) {
    STACK_OF(X509_EXTENSION) *extensions = NULL;
    int result = X509V3_add1_i2d(&extensions, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) == 1
        && X509_REQ_add_extensions(request, extensions) == 1;
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    return result;
}

// Adds an extension in the syntax of OpenSSL's configuration files.
static inline int copenssl_certificate_add(X509 *certificate, X509 *issuer, int nid, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    if (!extension) return 0;
    int result = X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
    return result;
}

// Keys.

static inline EVP_PKEY *copenssl_make_p256_key(void) { return EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"); }
static inline int copenssl_is_p256_key(EVP_PKEY *key) {
    char name[32];
    size_t count = 0;
    return EVP_PKEY_is_a(key, "EC") == 1 && EVP_PKEY_get_group_name(key, name, sizeof name, &count) == 1
        && (strcmp(name, "prime256v1") == 0 || strcmp(name, "P-256") == 0);
}

// Times as seconds since 1970; -1 when the certificate says something that is no time.
static inline int64_t copenssl_seconds(const ASN1_TIME *time) {
    int days = 0, seconds = 0;
    ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
    int64_t result = -1;
    if (epoch && ASN1_TIME_diff(&days, &seconds, epoch, time) == 1) result = (int64_t)days * 86400 + seconds;
    ASN1_TIME_free(epoch);
    return result;
}

// AEAD: the control codes are macros.
static inline int copenssl_set_tag(EVP_CIPHER_CTX *context, void *tag) {
    return EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, 16, tag);
}
static inline int copenssl_get_tag(EVP_CIPHER_CTX *context, void *tag) {
    return EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, 16, tag);
}

static inline long copenssl_bio_text(BIO *bio, char **text) { return BIO_get_mem_data(bio, text); }

#endif
