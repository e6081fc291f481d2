// The server's half of a TLS handshake for QUIC, from Go's crypto/tls: with Encrypted ClientHello, over a pipe.
// Arguments: certificate, key, ECHConfig in hex, its X25519 private key in hex, and the curve to insist on (a number).
// Each record on stdin and stdout: the level (one byte), the length (four bytes), CRYPTO bytes. Level 255 is a report.
package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strconv"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func send(level byte, data []byte) {
	header := binary.BigEndian.AppendUint32([]byte{level}, uint32(len(data)))
	_, err := os.Stdout.Write(append(header, data...))
	check(err)
}

func main() {
	certificate, err := tls.LoadX509KeyPair(os.Args[1], os.Args[2])
	check(err)
	config, err := hex.DecodeString(os.Args[3])
	check(err)
	key, err := hex.DecodeString(os.Args[4])
	check(err)
	curve, err := strconv.Atoi(os.Args[5])
	check(err)
	settings := &tls.Config{
		Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13, NextProtos: []string{"test"},
		CurvePreferences: []tls.CurveID{tls.CurveID(curve)},
		EncryptedClientHelloKeys: []tls.EncryptedClientHelloKey{{Config: config, PrivateKey: key, SendAsRetry: true}},
	}
	quic := tls.QUICServer(&tls.QUICConfig{TLSConfig: settings})
	quic.SetTransportParameters([]byte{})
	check(quic.Start(context.Background()))
	header := make([]byte, 5)
	for {
		for event := quic.NextEvent(); event.Kind != tls.QUICNoEvent; event = quic.NextEvent() {
			switch event.Kind {
			case tls.QUICWriteData:
				send(byte(event.Level), event.Data)
			case tls.QUICHandshakeDone:
				state := quic.ConnectionState()
				send(255, []byte(fmt.Sprintf("done %v %s", state.ECHAccepted, state.ServerName)))
			}
		}
		send(254, nil)
		if _, err := io.ReadFull(os.Stdin, header); err != nil {
			return
		}
		data := make([]byte, binary.BigEndian.Uint32(header[1:]))
		_, err := io.ReadFull(os.Stdin, data)
		check(err)
		if err := quic.HandleData(tls.QUICEncryptionLevel(header[0]), data); err != nil {
			send(255, []byte("error "+err.Error()))
			return
		}
	}
}
