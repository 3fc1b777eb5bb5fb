package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
)

// talkUDP is what busybox has no program for.
func talkUDP(how, where string) {
	switch how {
	case "answer-udp":
		logf("answers by UDP: %v", answerUDP(where))
	case "ask-udp":
		answer, err := askUDP(where)
		if err != nil {
			logf("%v", err)
			os.Exit(1)
		}
		fmt.Print(answer)
	}
}

// askUDP returns what is answered by the address that it asks, and no other.
func askUDP(at string) (string, error) {
	conn, err := net.DialTimeout("udp", at, patience)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte("?")); err != nil {
		return "", err
	}
	buf := make([]byte, 100)
	n, err := conn.Read(buf)
	return string(buf[:n]), err
}

// patience is how long an answer may take.
const patience = 5 * time.Second

// answerUDP answers each datagram with the address that it came from, of both
// versions of IP. It returns on an error.
func answerUDP(port string) error {
	addr, err := net.ResolveUDPAddr("udp", ":"+port)
	if err != nil {
		return err
	}
	failed := make(chan error)
	for _, version := range []string{"udp4", "udp6"} {
		go func() {
			socket, err := net.ListenUDP(version, addr)
			for buf := make([]byte, 1); err == nil; {
				var client netip.AddrPort
				if _, client, err = socket.ReadFromUDPAddrPort(buf); err == nil {
					_, err = socket.WriteToUDPAddrPort([]byte(client.Addr().String()+"\n"), client)
				}
			}
			failed <- err
		}()
	}
	return errors.Join(<-failed, <-failed) // a guest may lack one of them
}
