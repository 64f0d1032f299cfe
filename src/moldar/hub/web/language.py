"""The pages' two languages. The English text is the key of its Portuguese; a test finds every key in use."""

from typing import NamedTuple

from moldar.hub.web.language_keeping import KEEPING
from moldar.hub.web.language_settings import SETTINGS_PORTUGUESE

_OUTAGES = {
    "The hub cannot answer just now": "O hub não pode responder agora",
    "Please try again in a moment.": "Tente novamente em alguns instantes.",
    "the hub's database does not answer": "o banco de dados do hub não responde",
    "the hub's database is busy": "o banco de dados do hub está ocupado",
    "the hub's storage does not answer": "o armazenamento do hub não responde",
}
PORTUGUESE = {
    **_OUTAGES,
    **KEEPING,
    **SETTINGS_PORTUGUESE,
    "A registry for container images": "Um registro de imagens de contêiner",
    "Access tokens": "Tokens de acesso",
    "Access tokens stand in for your password in scripts and on build servers. Each can be limited and revoked.": (
        "Tokens de acesso substituem a sua senha em scripts e servidores de build. Cada um pode ser limitado "
        "e revogado."
    ),
    "Actions": "Permissões",
    "Add webhook": "Adicionar webhook",
    "All of yours": "Todos os seus",
    "Architecture": "Arquitetura",
    "Artifact": "Artefato",
    "Command": "Comando",
    "Compare": "Comparar",
    "Compare with": "Comparar com",
    "Configuration": "Configuração",
    "Copied": "Copiado",
    "Copy": "Copiar",
    "Copy it now: it is not shown again.": "Copie agora: ele não será mostrado novamente.",
    "Create an account": "Criar uma conta",
    "Create token": "Criar token",
    "Created": "Criado",
    "Delete": "Excluir",
    "Delete tag": "Excluir tag",
    "Delete webhook": "Excluir webhook",
    "Description": "Descrição",
    "Digest": "Digest",
    "Directory": "Diretório",
    "Edit README": "Editar README",
    "Edit description": "Editar descrição",
    "Entrypoint": "Entrypoint",
    "Environment": "Ambiente",
    "Events": "Eventos",
    "Expires": "Expira",
    "Expires after": "Expira em",
    "Exposed ports": "Portas expostas",
    "Files": "Arquivos",
    "For the repository, or all of a namespace": "Para o repositório, ou todos de um namespace",
    "It seems that nothing is here.": "Parece que não há nada aqui.",
    "Labels": "Rótulos",
    "Last deliveries": "Últimas entregas",
    "Last delivery": "Última entrega",
    "Last pushed": "Último push",
    "Last used": "Último uso",
    "Layer": "Camada",
    "Layers": "Camadas",
    "Letters, digits and . - _ in lower case": "Letras minúsculas, dígitos e . - _",
    "Make private": "Tornar privado",
    "Make public": "Tornar público",
    "Name": "Nome",
    "Never": "Nunca",
    "New access token": "Novo token de acesso",
    "New here?": "Novo por aqui?",
    "New webhook": "Novo webhook",
    "Newer": "Mais novos",
    "No README yet": "Nenhum README ainda",
    "No deliveries yet": "Nenhuma entrega ainda",
    "No difference": "Nenhuma diferença",
    "No repositories yet": "Nenhum repositório ainda",
    "No such repository.": "Este repositório não existe.",
    "No tags yet": "Nenhuma tag ainda",
    "No tokens yet": "Nenhum token ainda",
    "No webhooks yet": "Nenhum webhook ainda",
    "Nothing found for": "Nada encontrado para",
    "OS": "Sistema",
    "Off": "Desligado",
    "Older": "Mais antigos",
    "Packages": "Pacotes",
    "Page not found": "Página não encontrada",
    "Password": "Senha",
    "Permissions": "Permissões",
    "Platforms": "Plataformas",
    "Private": "Privado",
    "Public": "Público",
    "Public repositories": "Repositórios públicos",
    "Pull": "Baixar",
    "Pulls": "Downloads",
    "Push an image and it appears here.": "Envie uma imagem e ela aparece aqui.",
    "Pushed": "Enviado",
    "Repositories": "Repositórios",
    "Repositories allowed": "Repositórios permitidos",
    "Revoke": "Revogar",
    "Save": "Salvar",
    "Search": "Buscar",
    "Search repositories": "Buscar repositórios",
    "Search results": "Resultados da busca",
    "Secret (empty: a random one)": "Segredo (vazio: um aleatório)",
    "Send a test": "Enviar um teste",
    "Send again": "Enviar de novo",
    "Show the largest": "Mostrar os maiores",
    "Sign in": "Entrar",
    "Sign out": "Sair",
    "Sign up": "Criar conta",
    "Sign-up is closed on this hub.": "Este hub não aceita novas contas.",
    "Signatures and attachments": "Assinaturas e anexos",
    "Size": "Tamanho",
    "Skip to content": "Pular para o conteúdo",
    "Some layers could not be read whole.": "Algumas camadas não puderam ser lidas por inteiro.",
    "Star": "Favoritar",
    "Starred": "Favorito",
    "Switch off": "Desligar",
    "Switch on": "Ligar",
    "TLS failed": "o TLS falhou",
    "Tag": "Tag",
    "Tags": "Tags",
    "The form has expired. Please try again.": "O formulário expirou. Tente novamente.",
    "The layers are being read. This page looks again by itself.": (
        "As camadas estão sendo lidas. Esta página se atualiza sozinha."
    ),
    "The receiver checks signatures with it.": "O receptor verifica as assinaturas com ele.",
    "The secret of your new webhook": "O segredo do seu novo webhook",
    "This layer has no files.": "Esta camada não tem arquivos.",
    "This layer's instruction is not recorded": "A instrução desta camada não foi registrada",
    "This tag is an artifact, not a container image.": "Esta tag é um artefato, não uma imagem de contêiner.",
    "Token name": "Nome do token",
    "Tokens": "Tokens",
    "Too many attempts. Please wait a while.": "Muitas tentativas. Aguarde um pouco.",
    "User": "Usuário",
    "User name": "Nome de usuário",
    "Volumes": "Volumes",
    "Wasted space": "Espaço desperdiçado",
    "Webhook": "Webhook",
    "Webhooks": "Webhooks",
    "Webhooks tell other services of pushes and deletions.": (
        "Webhooks avisam outros serviços de envios e exclusões."
    ),
    "Whole image": "Imagem inteira",
    "Working directory": "Diretório de trabalho",
    "Wrong user name or password.": "Usuário ou senha incorretos.",
    "You may not add webhooks there.": "Você não pode adicionar webhooks ali.",
    "Your new token": "Seu novo token",
    "Your repositories": "Seus repositórios",
    "a password has at least 8 characters": "a senha tem pelo menos 8 caracteres",
    "a place has at most 20 webhooks": "cada lugar tem no máximo 20 webhooks",
    "a secret has at most 200 printable characters": "um segredo tem no máximo 200 caracteres imprimíveis",
    "a token allows at least one of pull, push, delete": "um token permite ao menos pull, push ou delete",
    "a token names repositories as alice/app, alice/* or *": "escreva repositórios como alice/app, alice/* ou *",
    "a token needs a name of at most 100 characters": "um token precisa de um nome de até 100 caracteres",
    "a user name has 2 to 39 characters": "o nome de usuário tem de 2 a 39 caracteres",
    "a user name has lower-case letters and digits, with single . - _ between them": (
        "o nome de usuário tem letras minúsculas e dígitos, com . - _ isolados entre eles"
    ),
    "a webhook asks for at least one of push, delete": "um webhook pede ao menos push ou delete",
    "a webhook is for a repository, alice/app, or for a whole namespace, alice/*": (
        "um webhook é para um repositório, alice/app, ou para um namespace inteiro, alice/*"
    ),
    "a webhook needs an http or https URL": "um webhook precisa de uma URL http ou https",
    "added": "adicionado",
    "and more:": "e mais:",
    "at least 8 characters": "pelo menos 8 caracteres",
    "attempt": "tentativa",
    "attempts": "tentativas",
    "changed": "alterado",
    "compressed in a way that is not read here": "comprimida de um modo que não é lido aqui",
    "connection refused": "conexão recusada",
    "damaged: the rest cannot be read": "danificada: o resto não pode ser lido",
    "days": "dias",
    "deleted": "excluído",
    "delivered": "entregue",
    "e.g. build server": "ex.: servidor de build",
    "failed": "falhou",
    "hides": "esconde",
    "just now": "agora mesmo",
    "no such host": "este host não existe",
    "of": "de",
    "of the unpacked bytes can be seen in a container. The rest was replaced or deleted by later layers.": (
        "dos bytes descompactados são visíveis em um contêiner. O resto foi substituído ou excluído por "
        "camadas posteriores."
    ),
    "pull": "download",
    "pulls": "downloads",
    "pulls in 30 days": "downloads em 30 dias",
    "reading it took too long: the rest is not shown": "a leitura demorou demais: o resto não é mostrado",
    "redirects are not followed": "redirecionamentos não são seguidos",
    "shared": "em comum",
    "tag": "tag",
    "tags": "tags",
    "the answer was not HTTP": "a resposta não era HTTP",
    "the answer's headers are too long": "os cabeçalhos da resposta são longos demais",
    "the connection was closed without an answer": "a conexão foi fechada sem resposta",
    "the host's address is not public, and not allowed here": (
        "o endereço do host não é público, nem permitido aqui"
    ),
    "the hub does not have its bytes": "o hub não tem os seus bytes",
    "the receiver refused": "o receptor recusou",
    "this user name is reserved": "este nome de usuário é reservado",
    "this user name is taken": "este nome de usuário já existe",
    "to download": "para baixar",
    "too large to be read whole": "grande demais para ser lida por inteiro",
    "too many deliveries wait": "há entregas demais esperando",
    "too many files: the rest is not shown": "arquivos demais: o resto não é mostrado",
    "unpacked": "descompactados",
    "waiting": "esperando",
}

_AGO = (
    (365 * 86400, "year", "years", "ano", "anos"),
    (30 * 86400, "month", "months", "mês", "meses"),
    (86400, "day", "days", "dia", "dias"),
    (3600, "hour", "hours", "hora", "horas"),
    (60, "minute", "minutes", "minuto", "minutos"),
)


class Language(NamedTuple):
    """How to speak to one reader. `code` goes into the page's lang attribute."""

    code: str

    @property
    def is_portuguese(self) -> bool:
        return self.code.startswith("pt")

    def text(self, english: str) -> str:
        return PORTUGUESE.get(english, english) if self.is_portuguese else english

    def ago(self, seconds: int) -> str:
        """How long ago something was, in one unit."""
        for length, one, many, um, muitos in _AGO:
            count = seconds // length
            if count >= 1:
                if self.is_portuguese:
                    return f"há {count} {um if count == 1 else muitos}"
                return f"{count} {one if count == 1 else many} ago"
        return self.text("just now")

    def size(self, size: int) -> str:
        """Bytes in decimal units, as Docker shows them."""
        value, unit = float(size), "B"
        for larger in ("kB", "MB", "GB", "TB"):
            if value < 1000:
                break
            value, unit = value / 1000, larger
        shown = f"{value:.0f}" if unit == "B" or value >= 100 else f"{value:.1f}"
        return f"{shown.replace('.', ',') if self.is_portuguese else shown} {unit}"


ENGLISH = Language("en")


def choose(accept_language: str) -> Language:
    """The better of our languages for an Accept-Language header (RFC 9110, section 12.5.4)."""
    best, weight = ENGLISH, 0.0
    for part in accept_language[:500].split(","):
        name, _, parameters = part.strip().partition(";")
        quality = 1.0
        if parameters.strip().startswith("q="):
            try:
                quality = float(parameters.strip()[2:])
            except ValueError:
                continue
        code = name.strip().lower()
        if quality > weight and code[:2] in ("pt", "en"):
            best, weight = Language("pt-BR") if code[:2] == "pt" else ENGLISH, quality
    return best
