"""The Portuguese of the pages about what is kept: retention, immutable tags, space."""

KEEPING = {
    "Every tag stays that any line keeps; leave a line empty to say nothing. Without any, all tags stay.": (
        "Toda tag que alguma linha mantém permanece; deixe uma linha vazia para não dizer nada. Sem nenhuma, todas "
        "as tags permanecem."
    ),
    "Applied with every garbage collection.": "Aplicada em cada coleta de lixo.",
    "Immutable tags": "Tags imutáveis",
    "Tags that match keep their image for good: nobody can push another image to them or delete them.": (
        "Tags que correspondem mantêm sua imagem para sempre: ninguém pode enviar outra imagem para elas nem "
        "excluí-las."
    ),
    "Patterns, such as": "Padrões, por exemplo",
    "Number of newest tags to keep": "Quantas das tags mais novas manter",
    "Days to keep a tag after its push": "Dias para manter uma tag após o envio",
    "Days to keep a tag after its last pull": "Dias para manter uma tag após o último download",
    "Keep tags that match": "Manter tags que correspondem a",
    "Days to keep what has no tag": "Dias para manter o que não tem tag",
    "No rule yet: everything stays.": "Nenhuma regra ainda: tudo permanece.",
    "This repository has no rule of its own and obeys that of": (
        "Este repositório não tem regra própria e obedece à de"
    ),
    "Numbers are whole and from 1 to 100000.": "Os números são inteiros, de 1 a 100000.",
    "This rule is for all repositories of the namespace that have none of their own.": (
        "Esta regra vale para todos os repositórios do namespace que não têm uma própria."
    ),
    "Preview": "Pré-visualizar",
    "Remove the rule": "Remover a regra",
    "Retention": "Retenção",
    "Saved.": "Salvo.",
    "Space used": "Espaço usado",
    "What would go now": "O que sairia agora",
    "Nothing would go now.": "Nada sairia agora.",
    "Why": "Por quê",
    "Last pull": "Último download",
    "Last push": "Último envio",
    "no part of the rule keeps it": "nenhuma parte da regra a mantém",
    "it has had no tag for too long": "está sem tag há tempo demais",
    "what it belongs to is gone": "aquilo a que pertence não existe mais",
    "patterns have letters, digits, . - _ and *, with spaces between them; at most 20": (
        "padrões têm letras, dígitos, . - _ e *, separados por espaços; no máximo 20"
    ),
}
