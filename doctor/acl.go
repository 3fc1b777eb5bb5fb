package doctor

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// acl is who may do what with a file, in the order in which the kernel looks.
//
// See acl(5).
type acl []aclEntry

type aclEntry struct {
	Tag, Rights uint16
	ID          uint32 // of the user or group that is named
}

// From include/uapi/linux/posix_acl.h and posix_acl_xattr.h of the kernel.
const (
	aclAttribute = "system.posix_acl_access"
	aclVersion   = 2
	aclLongest   = 64 << 10 // of any attribute

	aclOwner       = 0x01
	aclUser        = 0x02
	aclOwningGroup = 0x04
	aclGroup       = 0x08
	aclMask        = 0x10
	aclOther       = 0x20

	aclAll    = 0o7
	aclSearch = 0o1 // to go through a directory
)

// aclOf is the list of a file. One without has its mode.
func aclOf(path string, mode uint32) acl {
	content := make([]byte, aclLongest)
	n, err := unix.Getxattr(path, aclAttribute, content)
	if err != nil {
		return aclOfMode(mode)
	}
	if list, is := parseACL(content[:n]); is {
		return list
	}
	return aclOfMode(mode)
}

func aclOfMode(mode uint32) acl {
	return acl{
		{Tag: aclOwner, Rights: uint16(mode >> 6 & aclAll)},
		{Tag: aclOwningGroup, Rights: uint16(mode >> 3 & aclAll)},
		{Tag: aclOther, Rights: uint16(mode & aclAll)},
	}
}

// parseACL reads the attribute: a version, then the entries, all in little endian.
func parseACL(content []byte) (acl, bool) {
	const head, each = 4, 8
	if len(content) < head || (len(content)-head)%each != 0 || binary.LittleEndian.Uint32(content) != aclVersion {
		return nil, false
	}
	var list acl
	for e := range slices.Chunk(content[head:], each) {
		list = append(list, aclEntry{
			Tag:    binary.LittleEndian.Uint16(e),
			Rights: binary.LittleEndian.Uint16(e[2:]),
			ID:     binary.LittleEndian.Uint32(e[4:]),
		})
	}
	return list, len(list) > 0
}

// lets tells whether a directory of an owner and a group lets a user through. Who is
// the owner, or is named, is judged by that alone; who is in any of the groups is none
// of the others.
func (a acl) lets(owner, group uint32, id int, groups []int) bool {
	mask := a.mask()
	grouped := false
	for _, e := range a {
		if e.Tag == aclOwningGroup {
			e.ID = group
		}
		switch e.Tag {
		case aclOwner:
			if int(owner) == id {
				return e.Rights&aclSearch != 0
			}
		case aclUser:
			if int(e.ID) == id {
				return e.Rights&mask&aclSearch != 0
			}
		case aclOwningGroup, aclGroup:
			if slices.Contains(groups, int(e.ID)) {
				if e.Rights&mask&aclSearch != 0 {
					return true
				}
				grouped = true
			}
		case aclOther:
			return !grouped && e.Rights&aclSearch != 0
		}
	}
	return false
}

// mask bounds the rights of all but the owner and others.
func (a acl) mask() uint16 {
	for _, e := range a {
		if e.Tag == aclMask {
			return e.Rights
		}
	}
	return aclAll
}
