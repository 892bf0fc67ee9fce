// SPDX-License-Identifier: Apache-2.0

package value

import (
	"encoding/json"
	"errors"
	"iter"
)

type Kind int

const (
	NullKind Kind = iota
	BoolKind
	NumberKind
	StringKind
	ArrayKind
	ObjectKind
)

func (k Kind) String() string {
	return [...]string{"null", "bool", "number", "string", "array", "object"}[k]
}

var (
	ErrAttributeNotFound = errors.New("attribute not found")
	ErrInvalidKey        = errors.New("invalid key")
)

type Mapper interface {
	All() iter.Seq2[Value, Value]
	Attr(string) (Value, error)
	Get(Value) (Value, error)
	Keys() iter.Seq[Value]
	Len() int
	Values() iter.Seq[Value]
	WithMarks(uint16) Mapper
}

type Value struct {
	kind  Kind
	text  string // string content, or JSON text of everything else
	marks uint16
}

func Null() Value           { return Value{} }
func String(s string) Value { return Value{kind: StringKind, text: s} }
func Object(Mapper) Value   { return Value{kind: ObjectKind, text: "{}"} }

func (v Value) Kind() Kind               { return v.kind }
func (v Value) String() string           { return v.text }
func (v Value) HasMarks(m uint16) bool   { return v.marks&m != 0 }
func (v Value) WithMarks(m uint16) Value { v.marks |= m; return v }

func (v Value) MarshalJSON() ([]byte, error) {
	switch v.kind {
	case NullKind:
		return []byte("null"), nil
	case StringKind:
		return json.Marshal(v.text)
	}
	return []byte(v.text), nil
}

func (v *Value) UnmarshalJSON(b []byte) error {
	var x any
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	v.text = string(b)
	switch t := x.(type) {
	case nil:
		v.kind = NullKind
	case bool:
		v.kind = BoolKind
	case float64:
		v.kind = NumberKind
	case string:
		v.kind, v.text = StringKind, t
	case []any:
		v.kind = ArrayKind
	default:
		v.kind = ObjectKind
	}
	return nil
}
